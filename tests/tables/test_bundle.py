"""The exported bundle against the run's own predictions, by itself, damaged, and forged."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys import settings
from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.predict import predict
from recsys.tables import checkpoint, manifest, parts
from recsys.tables.bundle import EXPORT, Bundle
from recsys.tables.checkpoint import Progress
from recsys.tables.export import export
from recsys.tables.lookup import IdLookup
from recsys.tables.probe import raw_rows
from recsys.tables.program import load_program
from recsys.tables.vectors import TableVectors, quantise
from recsys.train import build, fitted, train
from tests import wide
from tests.ranks import run_ranks
from tests.tables.saved import VERSION
from tests.tables.test_sharding import config as sharded_config


def config(home: Path) -> Config:
    """A plan of every sharding; the strongest test of the order in which tables are read."""
    made = sharded_config(home / "data", "mixed")
    return replace(made, run=str(home / "run"), train=replace(made.train, epochs=2, table_lr=0.3, lr=0.02))


def train_and_export(made: Config) -> None:
    with process_group() as ranks:
        train(made, ranks)
        predict(made, "test", ranks)
        export(made, ranks, part_rows=7)


@pytest.fixture(scope="module", params=[False, True], ids=["strings", "integers"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset, run and export by two ranks, with ids of either type."""
    home = tmp_path_factory.mktemp("home")
    wide.write(home / "data", integers=request.param)
    run_ranks(2, train_and_export, config(home))
    return home


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    return shutil.copytree(home / "run" / "export", tmp_path / "copy")


def rows_of(home: Path, split: str = "test") -> pa.Table:
    made = config(home)
    return pa.concat_tables(raw_rows(made, Encoder.load(made, home / "run" / "encoder"), split, 10**6))


def test_it_scores_what_the_run_predicted_on_two_ranks(home: Path) -> None:
    predicted = pq.read_table(home / "run" / "scores" / "test").sort_by("row_id")["score"].to_numpy()
    rows = rows_of(home)
    assert len(rows) == len(predicted) and np.std(predicted) > 0.01
    for mapped in (False, True):
        bundle = Bundle.load(home / "run" / "export", mapped=mapped)
        np.testing.assert_allclose(bundle.score(rows).numpy(), predicted, atol=1e-6)
        np.testing.assert_allclose(bundle.score(rows[5:6]).numpy(), predicted[5:6], atol=1e-6)
    assert bundle.score(rows[:0]).shape == (0,)


def test_the_probe_has_every_kind_of_row(home: Path) -> None:
    probe = pq.read_table(home / "run" / "export" / "probe.parquet")
    made = config(home)
    for name in probe.column_names:
        if name not in ("score", "history_label"):
            assert probe[name].null_count >= 4, name
    known = Encoder.load(made, home / "run" / "encoder").maps["item_id"]
    unknown = known.rows(probe["item_id"].combine_chunks()) == 0
    assert unknown.sum() > probe["item_id"].null_count
    lengths = {len(row) for row in probe["history"].to_pylist() if row is not None}
    assert {0, made.data.history} <= lengths
    assert Bundle.load(home / "run" / "export").check() <= 1e-6


ALONE = """
import sys
from importlib.machinery import PathFinder
HIDDEN = "numpy pandas scipy sklearn torchrec fbgemm_gpu safetensors yaml pydantic tqdm".split()
class Others:
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else PathFinder.find_spec(name, path, target)
sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [Others()]
from recsys.tables.bundle import Bundle
print(Bundle.load(sys.argv[1]).check())
"""


def test_torch_and_pyarrow_are_enough(home: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(home / "run" / "export")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1e-6


def test_any_damaged_file_is_named(copy: Path) -> None:
    for path in sorted(file for file in copy.rglob("*") if file.is_file()):
        whole, name = path.read_bytes(), str(path.relative_to(copy))
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for damaged in (bytes(flipped), whole[:-3], b""):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=name):
                Bundle.load(copy)
        path.unlink()
        with pytest.raises(InputError, match=f"{name}: missing"):
            Bundle.load(copy)
        path.write_bytes(whole)
    (copy / "parquet" / "stray").write_bytes(b"x")
    with pytest.raises(InputError, match="stray: not in the manifest"):
        Bundle.load(copy)


def resealed(folder: Path) -> None:
    """A manifest whose checksums are right again: damage that a forger hides."""
    told = manifest.read(folder, EXPORT)
    files = {name: manifest.stamp(folder / name) for name in told.pop("files")}
    for key in ("format", "version"):
        del told[key]
    manifest.write(folder, EXPORT, files, **told)


def rewrite(path: Path, part: str, change: Callable[[bytes], bytes]) -> None:
    """Replace the archive's member that contains `part`."""
    with zipfile.ZipFile(path) as archive:
        members = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in members:
            archive.writestr(entry.filename, change(data) if part in entry.filename else data)


PICKLED = b"cposix\nsystem\n(S'touch unpickled'\ntR."
"""A pickle that leaves a file where it is loaded."""


def with_constant(data: bytes) -> bytes:
    """A configuration whose first tensor is in a member that torch takes for a pickled object."""
    told = json.loads(data)
    next(iter(told["config"].values()))["path_name"] = "opaque_obj_0"
    return json.dumps(told).encode()


FORGERIES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a pickled tensor": (
        "weights_config",
        lambda data: data.replace(b'"use_pickle": false', b'"use_pickle": true', 1),
    ),
    "an object among constants": ("constants_config", with_constant),
    "a pickled example": ("sample_inputs", lambda data: PICKLED),
    "a size that is code": ("/models/", lambda data: data.replace(b"Symbol('", b"print('x') or Symbol('")),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_program_is_refused_before_torch_reads_it(
    copy: Path, change: tuple[str, Callable[[bytes], bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (copy / "dense.pt2").read_bytes()
    rewrite(copy / "dense.pt2", *change)
    assert (copy / "dense.pt2").read_bytes() != whole
    refused(copy, monkeypatch)


def test_archives_of_older_layouts_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for members in (
        {"version": b"8", "serialized_exported_program.json": b"{}", "serialized_state_dict.pt": PICKLED},
        {"dense/models/model.json": b"{}", "dense/data/weights/model.pt": PICKLED},
    ):
        with zipfile.ZipFile(copy / "dense.pt2", "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        refused(copy, monkeypatch)


def refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resealed(copy)
    monkeypatch.chdir(copy)
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("torch read it"))
    with pytest.raises(InputError, match=r"dense\.pt2: not a program"):
        Bundle.load(copy)
    assert not (copy / "unpickled").exists()


def test_a_path_out_of_the_folder_is_refused(copy: Path) -> None:
    shutil.copytree(copy / "safetensors", copy.parent / "outside")
    told = manifest.read(copy, EXPORT)
    part = told["tables"]["gender"]["parts"][0]
    name, outside = part["safetensors"], "../outside/gender/part-00000.safetensors"
    part["safetensors"] = outside
    for key in ("format", "version"):
        del told[key]
    files = told.pop("files")
    manifest.write(copy, EXPORT, files, **told)
    with pytest.raises(InputError, match=r"part-00000\.safetensors is not among its files"):
        Bundle.load(copy)
    manifest.write(copy, EXPORT, files | {outside: files[name]}, **told)
    with pytest.raises(InputError, match="expected a path within the folder"):
        Bundle.load(copy)


def test_an_export_that_takes_its_place_while_it_is_read_is_noticed(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchanged(path: Path) -> torch.nn.Module:
        told = manifest.read(copy, EXPORT)
        rest = {key: value for key, value in told.items() if key not in ("format", "version", "files", "source")}
        manifest.write(copy, EXPORT, told["files"], source="another run", **rest)
        return load_program(path)

    monkeypatch.setattr("recsys.tables.bundle.load_program", exchanged)
    with pytest.raises(InputError, match="another export took its place"):
        Bundle.load(copy)


def test_tables_of_another_shape_are_refused_though_sealed(copy: Path) -> None:
    parts = sorted((copy / "safetensors" / "user_id").iterdir())
    shutil.copy(parts[-1], parts[0])
    resealed(copy)
    with pytest.raises(InputError, match=r"user_id/part-00000\.safetensors: table user_id: expected vectors \(7, 8\)"):
        Bundle.load(copy)


def test_bad_rows_are_one_clear_error(home: Path) -> None:
    bundle, rows = Bundle.load(home / "run" / "export", verify=False), rows_of(home)[:3]

    def changed(name: str, values: list) -> pa.Table:
        return rows.set_column(rows.column_names.index(name), name, pa.array(values))

    for table, said in (
        (rows.drop_columns(["gender"]), "column 'gender' is missing"),
        (changed("user_id", [1.5, 2.5, 3.5]), "column 'user_id': expected ids of type"),
        (changed("age", ["a", "b", "c"]), "column 'age': expected numbers"),
        (changed("age", [1, 2, 3]).append_column("age", pa.array([1, 2, 3])), "column 'age' is there twice"),
        (changed("history_label", [[0.5] * len(row) for row in rows["history"].to_pylist()]), "expected numbers"),
        (changed("age", [1.0, float("inf"), 3.0]), "column 'age': expected finite numbers"),
        (changed("history", [[1.5]] * 3), "column 'history': expected ids of type"),
        (changed("history", [1, 2, 3]), "column 'history': expected lists"),
        (changed("history_label", [[1], [], [0] * 99]), "one label for each item"),
    ):
        with pytest.raises(InputError, match=said):
            bundle.score(table)


def test_of_a_history_that_is_too_long_the_newest_are_read(home: Path) -> None:
    bundle, rows = Bundle.load(home / "run" / "export", verify=False), rows_of(home)[:1]
    longest = config(home).data.history
    ids = [x for x in rows_of(home, "train")["item_id"].unique().to_pylist()][: longest + 3]

    def scored(items: list) -> float:
        labels = [k % 2 for k in range(len(items))][::-1]
        kind = rows.schema.field("history").type
        table = rows.set_column(rows.column_names.index("history"), "history", pa.array([items], kind))
        place = table.column_names.index("history_label")
        return float(bundle.score(table.set_column(place, "history_label", pa.array([labels]))))

    assert scored(ids) == scored(ids[-longest:]) != scored(ids[:longest])


def test_codes_are_within_half_a_step() -> None:
    torch.manual_seed(0)
    vectors = torch.cat([torch.randn(50, 16) * torch.logspace(-6, 3, 50).unsqueeze(1), torch.full((2, 16), -0.3)])
    codes = quantise(vectors)
    assert sum(part.nbytes for part in codes.values()) == len(vectors) * (16 + 8)
    table = TableVectors([codes], len(vectors), len(vectors), 16)
    half = (vectors.amax(1) - vectors.amin(1)) / 255 / 2
    error = (table.take(torch.arange(len(vectors))) - vectors).abs().amax(1)
    assert (error <= half * 1.001 + 1e-7 * vectors.abs().amax(1)).all() and error.max() > 0
    assert torch.equal(table.take(torch.tensor([50, 51])), vectors[50:])


@pytest.mark.parametrize("coded", [True, False])
def test_what_a_table_would_hold_is_what_it_then_gives(coded: bool) -> None:
    torch.manual_seed(0)
    old, new, rows = torch.randn(9, 16), 3 * torch.randn(3, 16), torch.tensor([7, 0, 4])
    table = TableVectors([quantise(old) if coded else {"vector": old.clone()}], 9, 9, 16)
    held = table.held(new)
    table.put(rows, new)
    assert torch.equal(table.take(rows), held) and torch.equal(held, new) != coded


def test_eight_bits_score_nearly_the_same(home: Path, tmp_path: Path) -> None:
    made = replace(config(home), run=str(shutil.copytree(home / "run", tmp_path / "run")))
    exact = Bundle.load(home / "run" / "export").score(rows_of(home))
    with process_group() as ranks:
        folder = export(made, ranks, int8=True, part_rows=7)
    bundle = Bundle.load(folder, mapped=True)
    assert bundle.check() <= 1e-5
    change = (bundle.score(rows_of(home)) - exact).abs()
    assert 0 < change.max() < 0.02
    code = pq.read_table(folder / "parquet" / "item_id")
    assert code.schema.field("vector").type == pa.list_(pa.uint8(), 8) and {"scale", "offset"} <= set(code.column_names)


def test_an_export_that_would_score_otherwise_is_not_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = replace(config(home), run=str(shutil.copytree(home / "run", tmp_path / "run")))
    shutil.rmtree(tmp_path / "run" / "export")
    rows = IdLookup.rows
    with monkeypatch.context() as patch, process_group() as ranks:
        # Seen by the probe alone: valid rows name no unknown item.
        patch.setattr(IdLookup, "rows", lambda self, *ids: rows(self, *ids).clamp(min=self.name == "item_id"))
        for int8 in (False, True):
            with pytest.raises(InputError, match="a probe row scores"):
                export(made, ranks, int8=int8)
    monkeypatch.setattr(parts, "quantise", lambda vectors: quantise(vectors * 0))
    with process_group() as ranks, pytest.raises(InputError, match="8-bit tables change the AUC"):
        export(made, ranks, int8=True)
    take = TableVectors.take
    monkeypatch.setattr(TableVectors, "take", lambda self, rows: take(self, rows) * 1.01)
    with process_group() as ranks, pytest.raises(InputError, match="a probe row scores"):
        export(made, ranks)
    assert not (tmp_path / "run" / "export").exists() and not list((tmp_path / "run").glob(".export*"))


@pytest.mark.parametrize("changes", [{"history": False}, {"history_labels": False}, {"cross": "dot"}], ids=str)
@pytest.mark.parametrize(
    "kinds",
    [{"category", "dense", "multi"}, {"category"}, {"multi", "dense"}],
    ids=lambda kinds: "-".join(sorted(kinds)),
)
def test_models_of_any_inputs_are_exported(
    changes: dict[str, object], kinds: set[str], tmp_path: Path, home: Path
) -> None:
    features = [each for each in wide.FEATURES if each.get("kind", "category") in kinds]
    model = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4, **changes}
    made = wide.config(home / "data", tmp_path / "run", features=features, model=model)
    with process_group() as ranks:
        sharded = build(made, fitted(made, ranks), ranks)
        checkpoint.save(tmp_path / "run" / "checkpoints", sharded, Progress(best_auc=0.5), 1, VERSION)
        settings.dump(made, tmp_path / "run" / "config.yaml")
        assert Bundle.load(export(made, ranks)).check() <= 1e-6


def test_integers_of_any_width_and_wide_text_are_looked_up() -> None:
    narrow = IdLookup("c", pa.array([3, 1], pa.int8()))
    assert narrow.rows(pa.array([1, 300, None, 3], pa.int64())).tolist() == [2, 0, 0, 1]
    text = IdLookup("c", pa.array(["b", "a"]))
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert text.rows(pa.array(["a", "x", None, "b"]).cast(kind)).tolist() == [2, 0, 0, 1]
    assert IdLookup("c", pa.array([], pa.string())).rows(pa.array(["a"])).tolist() == [0]
    with pytest.raises(InputError, match="id b has two rows"):
        IdLookup("c", pa.array(["b", "a", "b"]))
