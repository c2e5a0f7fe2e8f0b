"""A simulation of the tiny dataset by a tiny judge: what the tests of the funnel share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from recsys.config import Config
from recsys.config_simulator import Retrieve
from recsys.distributed import process_group
from recsys.evaluate.vectors import read_vectors
from simulator import funnel, judge, retrieve
from simulator.population import Population
from tests import tiny
from tests.simulator.models import FILM

DIM = 5


def config(home: Path, model: Path, name: str = "simulated", **options: Any) -> Config:
    """Of a simulation in `home`, under a name: 4 cold items, 12 candidates of each, 12 pairs for the threshold."""
    given = {"candidates": 12, "qualified": 4, "round": 3, "calibration": 12, "groups": 2, "batch_size": 8, **options}
    tree = {
        "name": name,
        "judge": {"name": str(model), "bf16": False, "batch_size": 4},
        "prompt": {
            **{name: getattr(FILM, name) for name in ("item", "items", "do", "did", "history", "history_tokens")},
            "template": "{title}",
        },
        "funnel": given,
    }
    return tiny.config(home / "data", home / "run", simulator=tree)


def filtered(home: Path, seed: int = 0) -> None:
    """A filter's vectors of all users and items, drawn at random, and its index of the users of split=train."""
    order = np.random.default_rng(seed)
    folder = home / "run" / "simulator" / "filter"
    folder.mkdir(parents=True)
    for name, ids in (
        ("user_id", [f"u{k:02d}" for k in range(tiny.USERS)]),
        ("item_id", [f"item {k:02d}" for k in range(tiny.ITEMS)]),
    ):
        vectors = pa.array(list(order.normal(size=(len(ids), DIM)).astype(np.float32)), pa.list_(pa.float32()))
        pq.write_table(pa.table({"id": ids, "vector": vectors}), folder / f"{name}.parquet")
    people = Population.read(home / "data")
    users = read_vectors(folder, people.users, people.items).users
    retrieve.write(retrieve.build(users, Retrieve()), folder / "users.faiss")


class Recorder:
    """A judge that also writes each question down: the history and the item, one line each."""

    def __init__(self, inner: judge.Judge, path: Path) -> None:
        self._inner, self._path = inner, path

    def score(
        self, contexts: Sequence[Sequence[str]], items: Sequence[str], pairs: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        found = self._inner.score(contexts, items, pairs)
        with self._path.open("a") as file:
            file.writelines(f"{'|'.join(contexts[c])} ? {items[i]}\n" for c, i in pairs)
        return found

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._inner.embed(texts)


def play(made: Config, log: Path | None = None) -> Path:
    """Simulate as one of the ranks; the questions go to a file of this rank's."""
    [found] = play_each([made], log)
    return found


def play_each(configs: list[Config], log: Path | None = None) -> list[Path]:
    """The same of several configs, one after the other."""
    torch.set_num_threads(1)
    with process_group() as ranks:
        if log is None:
            return [funnel.simulate(made, ranks) for made in configs]
        inner = judge.load(configs[0].simulator, ranks.device)
        return [funnel.play(made, Recorder(inner, log.with_suffix(f".{ranks.rank}")), ranks) for made in configs]


def questions(log: Path) -> list[str]:
    """What all ranks asked."""
    return [line for path in sorted(log.parent.glob(f"{log.name}.*")) for line in path.read_text().splitlines()]
