"""A tiny ranker with proxies in its slot, and all that it comes from, in one folder that can be copied whole.

    data/  llama/  base/ (a run, aligned, its vectors written)  slot/ (trained on these vectors, exported)

Paths are relative: whoever uses a copy is in it (`inside`).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from proxy import vectors
from proxy.align import align
from recsys import settings
from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.schema import read_info, write_info
from recsys.distributed import process_group
from recsys.tables import checkpoint
from recsys.tables.bundle import Bundle
from recsys.tables.checkpoint import Progress
from recsys.tables.export import export
from recsys.tables.parts import tables_of
from recsys.tables.probe import Trained, raw_rows
from recsys.tables.stored import StoredTensor
from recsys.tables.version import Version
from recsys.train import build, fitted, train
from tests import tiny
from tests.proxy import models

DIM, GROUPS = 8, 2
CPU = torch.device("cpu")
VECTORS = Path("base/proxy/vectors")
CONTENT = {"coarse": "base/proxy/vectors/coarse.parquet", "layers": "base/proxy/vectors/layers.parquet"}
_ALIGN = {
    "tau": 5,
    "folds": 2,
    "hidden": [16],
    "epochs": 1,
    "recall": [1],
    "valid_share": 0.2,
    "test_share": 0.2,
    "new_lr": 0.01,
}
_ENCODER = {"kind": "text", "name": "llama", "tokens": 24, "bf16": False, "template": "{title}. {text}"}


def base() -> Config:
    proxy = {"align": _ALIGN, "encoder": _ENCODER, "groups": GROUPS, "sample": 20}
    return tiny.config(Path("data"), Path("base"), proxy=proxy)


def config(run: str = "slot", place: str = "slot", fine: bool = True, seed: int = 0, **files: str) -> Config:
    """A ranker on the vectors, or on these files; of `proxy.encoder` it says nothing."""
    used = {**(CONTENT if fine else {"coarse": CONTENT["coarse"]}), **files}
    model = {"dim": DIM, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4}
    model["proxy"] = {"place": place, "adaptor": [8], **used}
    learn = {"batch_size": 16, "shuffle_rows": 64, "epochs": 2, "hide_ids": 0.3, "lr": 0.02, "table_lr": 0.3, "keep": 4}
    return tiny.config(Path("data"), Path(run), model=model, train={**learn, "seed": seed})


def make(home: Path) -> None:
    """Everything, from nothing."""
    with inside(home), process_group() as ranks:
        tiny.write(Path("data"))
        models.llama(Path("llama"))
        made = base()
        sharded = build(made, fitted(made, ranks), ranks)
        best = Progress(step=7, best_auc=0.5)
        checkpoint.save(Path("base/checkpoints"), sharded, best, 1, Version("tables", "run", 7))
        write_info(read_info(made.data.path), Path("base"))
        settings.dump(made, Path("base/config.yaml"))
        align(made, ranks)
        vectors.write(made, ranks)
        train(config(), ranks)
        export(config(), ranks)


def trained(home: Path, made: Config, exported: bool = True) -> None:
    """Train a ranker (further) and export it."""
    with inside(home), process_group() as ranks:
        train(made, ranks)
        if exported:
            export(made, ranks)


@contextmanager
def inside(home: Path) -> Iterator[None]:
    """As a command that is started in `home`."""
    before = Path.cwd()
    home.mkdir(parents=True, exist_ok=True)
    os.chdir(home)
    try:
        yield
    finally:
        os.chdir(before)


def write(path: Path, items: Sequence[str], text: str = "a film of toys number") -> Path:
    """New items: each has its id as title, and a text of its own."""
    texts = [f"{text} {k} {item}" for k, item in enumerate(items)]
    pq.write_table(pa.table({"item_id": list(items), "title": list(items), "text": texts}), path)
    return path


def stored(made: Config, table: str, items: Sequence[str]) -> Tensor:
    """[n, width] what the best checkpoint holds of items; row 0 of one that it does not know."""
    source = checkpoint.best(Path(made.run) / "checkpoints")
    [found] = [each for each in tables_of(Path(made.run), source) if each.name == table]
    return StoredTensor(source, found.tensor).take(torch.from_numpy(found.ids.rows(pa.array(items))))


def served(made: Config, table: str, items: Sequence[str]) -> Tensor:
    """[n, width] what the bundle holds of them."""
    bundle = Bundle.load(Path(made.run) / "export")
    return bundle.vectors[table].take(bundle.ids[table].rows(pa.array(items)))


def scores(made: Config, item: str) -> tuple[Tensor, Tensor]:
    """Of test rows with `item` as target and in every history: by the trained model, and by the bundle."""
    encoder = Encoder.load(made, Path(made.run) / "encoder")
    rows = pa.concat_tables(raw_rows(made, encoder, "test", 10**6)).slice(0, 8)
    lists = [[item, *each][-6:] for each in rows["history"].to_pylist()]
    labels = [[1, *each][-6:] for each in rows["history_label"].to_pylist()]
    for name, column in {"item_id": [item] * 8, "history": lists, "history_label": labels}.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.column_names.index(name), field, pa.array(column, field.type))
    source = checkpoint.best(Path(made.run) / "checkpoints")
    by_model = Trained(made, encoder, source, tables_of(Path(made.run), source)).score(rows)
    return by_model, Bundle.load(Path(made.run) / "export").score(rows)
