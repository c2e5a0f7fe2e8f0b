"""One draw of the data, and what the rivals train on it; made when first asked for, then shared by all trials."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.prepare import prepare
from recsys.data.schema import read_info
from recsys.rivals import deepfm, linear, means, trees
from recsys.rivals.rows import Doubles, Scored
from recsys.rivals.tabular import Table, Tabular
from recsys.trials.space import Params


class Fitted(Protocol):
    """A trained rival."""

    @property
    def valid_auc(self) -> float: ...

    def scores(self, split: str) -> Iterator[Scored]: ...


@dataclass(frozen=True)
class Floor:
    """The two means with their smoothing strengths."""

    means: means.Means
    dataset: Path
    params: Params
    valid_auc: float

    def scores(self, split: str) -> Iterator[Scored]:
        """Row ids and probabilities of a split."""
        return means.scores(self.means, self.dataset, split, **self.params)


class Bench:
    """Encoder, statistics and tables of one draw (`config.data.path`)."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def encoder(self) -> Encoder:
        return fit(self.config)

    @cached_property
    def tabular(self) -> Tabular:
        return Tabular.fit(self.encoder)

    @cached_property
    def tables(self) -> tuple[Table, Table]:
        """Train and valid."""
        return self.tabular.table("train"), self.tabular.table("valid")

    @cached_property
    def means(self) -> means.Means:
        return means.fit(Path(self.config.data.path))

    @cached_property
    def valid_label(self) -> Doubles:
        return means.labels(Path(self.config.data.path), "valid")


def _floor(bench: Bench, params: Params, seed: int) -> Fitted:
    dataset = Path(bench.config.data.path)
    auc = means.auc(bench.valid_label, means.scores(bench.means, dataset, "valid", **params))
    return Floor(bench.means, dataset, params, auc)


TRAIN: dict[str, Callable[[Bench, Params, int], Fitted]] = {
    "means": _floor,
    "linear": lambda bench, params, seed: linear.train(bench.tabular, *bench.tables, params, seed),
    "deepfm": lambda bench, params, seed: deepfm.train(bench.encoder, params, seed),
    "trees": lambda bench, params, seed: trees.train(bench.tabular, *bench.tables, params, seed),
}
"""Every rival: (bench, params, seed) -> trained."""


def draw(config: Config, seed: int, folder: Path) -> Config:
    """The config of the draw `seed`: another split seed and weights, its own dataset directory, runs below `folder`.

    The config's own seed keeps its dataset; another seed's is prepared beside it as `<data.path>-seed<k>` if need be.

    Raises:
        InputError: the config's own dataset is missing, or the source cannot be read.
    """
    data = config.data
    if seed == data.split.seed:
        read_info(data.path)
    else:
        data = replace(data, path=f"{data.path}-seed{seed}", split=replace(data.split, seed=seed))
        prepare(data)
    return replace(config, run=str(folder / f"seed-{seed}"), data=data, train=replace(config.train, seed=seed))


SEARCH_SHARE = 0.5
"""Share of the training rows, the newest, on which the search's trials are compared."""


def search_draw(config: Config, folder: Path) -> Config:
    """The config of the draw that hyper-parameters are searched on: the cut made once more inside the training rows.

    The usual validation rows follow the training rows so closely that they flatter what has learned the users' present
    state by heart; test rows lie as far ahead as half of a log. No row after the cut is looked at.

    Raises:
        InputError: the source cannot be read.
    """
    data = config.data
    data = replace(data, path=f"{data.path}-search", split=replace(data.split, valid_share=SEARCH_SHARE))
    prepare(data)
    return replace(config, run=str(folder / "search"), data=data)
