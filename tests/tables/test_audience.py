"""Rows for some targets only: each takes what is meant for it, and must have a table for that."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.model.proxies import Proxies
from recsys.tables import checkpoint, delta, live, log, manifest, service
from recsys.tables.bundle import Bundle
from recsys.tables.delta import Delta
from recsys.tables.diff import diff
from recsys.tables.export import export
from recsys.tables.piece import Piece
from recsys.tables.probe import raw_rows
from recsys.tables.refresh import refresh
from recsys.tables.rows import Rows
from recsys.train import build, train
from tests import contents, wide
from tests.ranks import run_ranks
from tests.tables.changes import at_random, piece
from tests.tables.test_item_content import config as of_place

AUDIENCES = {"item_coarse": "both", "item_layers": "training", "item_fine": "serving"}


def written(folder: Path, number: int = 1, **audiences: str) -> Delta:
    folder.mkdir(parents=True)
    made = [piece(name, at_random(number, [1, 2])) for name in audiences]
    told = zip(made, audiences.values(), strict=True)
    return delta.write(folder, (replace(each, audience=who) for each, who in told), number, number)  # type: ignore


def test_a_delta_keeps_who_takes_it(tmp_path: Path) -> None:
    each = written(tmp_path / "one", a="training", b="serving", c="both")
    assert delta.read(tmp_path / "one").tables == each.tables
    assert list(each.taken_by("training")) == ["a", "c"] and list(each.taken_by("serving")) == ["b", "c"]
    assert [part.audience for name in each.tables for part in each.pieces(name)] == ["training", "serving", "both"]


def test_deltas_from_before_there_was_an_audience_are_for_all(tmp_path: Path) -> None:
    each = written(tmp_path / "one", a="both")
    told = manifest.read(each.folder, delta.FORMAT)
    del told["tables"]["a"]["audience"]
    assert delta.parse(each.folder, told).tables == each.tables
    told["tables"]["a"]["audience"] = "nobody"
    with pytest.raises(InputError, match="expected an audience of training, serving, both"):
        delta.parse(each.folder, told)


def test_a_compacted_log_keeps_it_and_one_table_has_one(tmp_path: Path) -> None:
    def append(number: int, audience: str) -> None:
        made = replace(piece("a", at_random(number, [1, number])), audience=audience)  # type: ignore[arg-type]
        log.append(tmp_path, [made])

    append(2, "serving")
    append(3, "serving")
    compacted = log.compact(tmp_path)
    assert compacted and compacted.tables["a"].audience == "serving" and compacted.rows == 3
    append(4, "training")
    with pytest.raises(InputError, match="table a: rows for serving and for training"):
        log.compact(tmp_path)
    with pytest.raises(InputError, match="a: rows for both and for training"):
        both = [replace(piece("a", at_random(1, [k])), audience=who) for k, who in ((1, "both"), (2, "training"))]  # type: ignore
        delta.write(_new(tmp_path / "mixed"), both, 1, 1)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def config(home: Path) -> Config:
    made = of_place(home)
    return replace(made, train=replace(made.train, epochs=2, table_lr=0.3, lr=0.02, hide_ids=0.3))


def train_and_export(made: Config) -> None:
    with process_group() as ranks:
        train(made, ranks)
        export(made, ranks)


def new_content(made: Config) -> list[Piece]:
    """Item 27, which is new and had no content, gets some: coarse, layers, and the fine proxy that they make."""
    run = Path(made.run)
    source = checkpoint.best(run / "checkpoints")
    ids, base = IdMap.load(run / "encoder" / "item_coarse.parquet"), checkpoint.version_of(source)
    torch.manual_seed(5)
    coarse, layers = torch.randn(1, 8).half().float(), torch.randn(1, 16).half().float()
    proxies = Proxies([8, 16], 8, [8])
    prefix = "ranker.dense_arch.proxies."
    state = checkpoint.read(source, [prefix + name for name in proxies.state_dict()])
    proxies.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    vectors = dict(zip(AUDIENCES, (coarse, layers, proxies.fine(coarse, layers).detach()), strict=True))
    rows, item = torch.from_numpy(ids.unowned()[:1]), pa.array(["item 27"])
    return [
        Piece.of(name, rows, item, vector, "test", base, audience=AUDIENCES[name])  # type: ignore[arg-type]
        for name, vector in vectors.items()
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("audience")
    wide.write(home / "data")
    contents.write(home)
    run_ranks(2, train_and_export, config(home))
    return home


def scores(bundle: Bundle, made: Config, item: str) -> Tensor:
    """Of test rows with `item` as target and in every history."""
    encoder = Encoder.load(made, Path(made.run) / "encoder")
    rows = pa.concat_tables(raw_rows(made, encoder, "test", 10**6)).slice(0, 8)
    lists = [[item, *each] for each in rows["history"].to_pylist()]
    labels = [[1, *each] for each in rows["history_label"].to_pylist()]
    for name, column in {"item_id": [item] * 8, "history": lists, "history_label": labels}.items():
        place = rows.column_names.index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(column, rows.schema.field(name).type))
    return bundle.score(rows)


def taken(made: Config) -> Tensor:
    """What a live model holds for item 27 once it has taken the run's delta."""
    with process_group() as ranks:
        encoder = Encoder.load(made, Path(made.run) / "encoder")
        sharded = build(made, encoder, ranks)
        source = checkpoint.best(Path(made.run) / "checkpoints")
        checkpoint.load(source, sharded)
        version = replace(checkpoint.version_of(source), delta=0)
        [each] = log.every(Path(made.run))
        rows = Rows(sharded, ranks)
        assert live.apply(each, rows, version, ranks).delta == 1
        row = torch.from_numpy(encoder.maps["item_layers"].rows(pa.array(["item 27"])))
        return rows.read("item_layers", row)[0]


def test_new_content_reaches_checkpoint_live_model_and_bundle(home: Path) -> None:
    made = config(home)
    run = Path(made.run)
    before = checkpoint.best(run / "checkpoints")
    kept = shutil.copytree(before, home / "before" / before.name)
    old = scores(Bundle.load(run / "export"), made, "item 27")
    pieces = new_content(made)
    each = service.publish(run, lambda: pieces)
    assert each and {name: stored.audience for name, stored in each.tables.items()} == AUDIENCES
    bundle = Bundle.load(run / "export")
    assert "item_layers" not in bundle.vectors
    now = scores(bundle, made, "item 27")
    assert not torch.allclose(now, old, atol=1e-4)
    for name in ("item_coarse", "item_layers"):
        assert IdMap.load(run / "encoder" / f"{name}.parquet").rows(pa.array(["item 27"]))[0] == pieces[0].rows[0]
    [held, other] = run_ranks(2, taken, made)
    assert torch.equal(held, pieces[1].vectors) and torch.equal(held, other)
    with pytest.raises(InputError, match="content has come in since"):
        diff(run, kept, checkpoint.best(run / "checkpoints"), home / "difference")
    # An export made anew has its fine proxies from the checkpoint's coarse vectors and layers.
    run_ranks(1, export_only, made)
    torch.testing.assert_close(scores(Bundle.load(run / "export"), made, "item 27"), now, atol=1e-6, rtol=0)


def export_only(made: Config) -> None:
    with process_group() as ranks:
        export(made, ranks)


def test_a_table_that_its_target_does_not_have_is_refused(home: Path, tmp_path: Path) -> None:
    run = Path(config(home).run)
    source = checkpoint.best(run / "checkpoints")
    base = checkpoint.version_of(source)
    rows, item, vector = torch.tensor([1]), pa.array(["item 01"]), torch.zeros(1, 8)
    for name, audience in (("item_other", "training"), ("item_fine", "both")):
        made = Piece.of(name, rows, item, vector, "test", base, audience=audience)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"it has no table {name}"):
            service.publish(run, lambda made=made: [made])  # type: ignore[misc]
    number = base.delta + 1
    made = Piece.of("item_layers", rows, item, torch.zeros(1, 16), "test", base, audience="both")
    each = delta.write(_new(tmp_path / "strange"), [made], number, number)
    with pytest.raises(InputError, match=r"table item_layers: .* has "):
        refresh(run / "export", [each])
