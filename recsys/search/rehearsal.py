"""New items made of training rows, on which a system of the floor is searched before it meets the real ones.

    <run>/search/rows/         split=train of the dataset, as a log
    <run>/search/data/         the dataset made from it, by the same rule: cut and new items once more
    <run>/search/base-<key>/   the ranker trained on that; of `means`, a run without a checkpoint. Of another config, or
                               number of ranks, it goes when that one's is made

What is scored are the rows after the inner cut, of the inner new items: training rows all of them.
"""

from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq

from recsys import runs, settings
from recsys.config import Config, Data, Files, Label, Source
from recsys.data.prepare import prepare
from recsys.data.schema import ITEMS, USERS, read_info, split_files
from recsys.distributed import Ranks, of_first, on_first
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.files import remove, replacing
from recsys.floor.systems import floor
from recsys.predict import predict
from recsys.search import judge
from recsys.train import train
from recsys.trials.known import of_ranker
from recsys.trials.search import digest


def rehearsed(config: Config, ranks: Ranks) -> Config:
    """The config of the inner dataset and its run, made if need be. Collective.

    Raises:
        InputError: the dataset holds no new items out, draws its negatives, or has too few training rows for them.
    """
    folder = Path(config.run) / "search"
    inner = replace(config, data=_data(config, folder))
    on_first(ranks, lambda: _prepare(config, inner.data, folder))
    inner = replace(inner, run=of_first(ranks, lambda: str(_base(inner, folder, ranks.world_size))))
    if config.search.system == "means":
        on_first(ranks, lambda: runs.begin(inner))
    else:
        train(inner, ranks)
        if not of_first(ranks, lambda: _scored(inner)):
            predict(inner, "test", ranks)
    return inner


def objective(inner: Config, name: str, ranks: Ranks) -> float:
    """Score the inner new items by the system and judge it. Collective.

    inner: of `rehearsed`, with the trial's values. name: of the trial.

    Raises:
        InputError: the system fails, or the metric is no number on these rows.
    """
    asked = inner.search
    assert asked.system != "ranker"
    folder = floor(inner, asked.system, asked.exposure, ranks, name)
    dataset = Path(inner.data.path)
    return of_first(ranks, lambda: judge.value(dataset, "test", folder, asked.metric, asked.exposure, new=True))


def _scored(inner: Config) -> bool:
    """Whether the base's scores are all there: each rank writes a part of them, and may have been killed before."""
    parts = (Path(inner.run) / "scores" / "test").glob("part-*.parquet")
    return sum(pq.read_metadata(part).num_rows for part in parts) == read_info(inner.data.path).counts["test"]


def _data(config: Config, folder: Path) -> Data:
    data = config.data
    if data.split.rule != "exposure" or data.label.rule == "observed":
        raise InputError(
            f"search.system={config.search.system}: data.split.rule={data.split.rule}, data.label.rule="
            f"{data.label.rule}: expected the rule exposure, and labels that the log has"
        )
    outer = Path(data.path)
    source = Source(
        kind="files",
        interactions=Files(path=str(folder / "rows")),
        users=Files(path=str(outer / USERS)),
        items=Files(path=str(outer / ITEMS)),
    )
    # The inner cut leaves an item about half of its rows.
    split = replace(data.split, min_rows=data.split.min_rows // 2)
    return replace(data, path=str(folder / "data"), source=source, label=Label(rule="column"), split=split)


def _prepare(config: Config, data: Data, folder: Path) -> None:
    info = read_info(config.data.path)
    mark = folder / "rows" / f"of-{digest(asdict(info))}.parquet"
    if not mark.exists():
        with replacing(folder / "rows") as temporary:
            temporary.mkdir()
            _copy(Path(config.data.path), info.context, temporary / mark.name)
    prepare(data)


def _base(inner: Config, folder: Path, ranks: int) -> Path:
    """The base's folder, after those of other settings have gone: trials would be known by what it was not made with.

    All that a run is held to is in its name, so that none is refused for a key of which the user knows nothing.
    """
    data = {key: value for key, value in settings.plain(inner)["data"].items() if key != "source"}
    about = [of_ranker(inner, ranks), data]
    base = folder / f"base-{digest(about)}"
    for other in [folder / "base", *folder.glob("base-*")]:
        if other != base:
            remove(other)
    return base


def _copy(dataset: Path, context: list[str], path: Path) -> None:
    """The training rows as a log: what preparing adds to a row is left out, so that it is made of these rows alone."""
    columns = ["user_id", "item_id", "timestamp", "label", "value", *context]
    writer: pq.ParquetWriter | None = None
    try:
        for file in split_files(dataset, "train"):
            for _, table in read_groups(file, columns):
                writer = writer or pq.ParquetWriter(path, table.schema)
                writer.write_table(table)
    finally:
        if writer:
            writer.close()
