"""The exported bundle against the run's own predictions, by itself, damaged, and forged."""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.predict import predict
from recsys.tables import manifest, parts
from recsys.tables.bundle import Bundle
from recsys.tables.export import export
from recsys.tables.probe import raw_rows
from recsys.tables.vectors import Vectors, quantise
from recsys.train import train
from tests import wide
from tests.ranks import run_ranks
from tests.tables.test_sharding import config as sharded_config


def config(home: Path, integers: bool = False) -> Config:
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
    told = manifest.read(folder)
    files = {name: manifest.stamp(folder / name) for name in told.pop("files")}
    for key in ("format", "version"):
        del told[key]
    manifest.write(folder, files, **told)


def rewrite(path: Path, part: str, change: object) -> None:
    """Replace the archive's member that contains `part`."""
    with zipfile.ZipFile(path) as archive:
        members = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in members:
            archive.writestr(entry.filename, change(data) if part in entry.filename else data)  # type: ignore[operator]


def test_a_forged_program_is_refused_before_torch_reads_it(copy: Path) -> None:
    whole = (copy / "dense.pt2").read_bytes()
    pickled = b"cbuiltins\nprint\n(S'unpickled'\ntR."
    for part, change, said in (
        (
            "weights_config",
            lambda data: data.replace(b'"use_pickle": false', b'"use_pickle": true', 1),
            "pickled objects",
        ),
        ("sample_inputs", lambda data: pickled, "dense.pt2"),
        ("/models/", lambda data: data.replace(b"Symbol('", b"print('x') or Symbol('"), "symbols or numbers"),
    ):
        (copy / "dense.pt2").write_bytes(whole)
        rewrite(copy / "dense.pt2", part, change)
        assert (copy / "dense.pt2").read_bytes() != whole
        resealed(copy)
        with pytest.raises(InputError, match=said):
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
        labels = [hash(str(item)) % 2 for item in items]
        kind = rows.schema.field("history").type
        table = rows.set_column(rows.column_names.index("history"), "history", pa.array([items], kind))
        place = table.column_names.index("history_label")
        return float(bundle.score(table.set_column(place, "history_label", pa.array([labels]))))

    assert scored(ids) == scored(ids[-longest:]) != scored(ids[:longest])


def test_codes_are_within_half_a_step() -> None:
    torch.manual_seed(0)
    vectors = torch.cat([torch.randn(50, 16) * torch.logspace(-6, 3, 50).unsqueeze(1), torch.full((2, 16), -0.3)])
    codes = quantise(vectors)
    assert codes["vector"].dtype == torch.uint8
    table = Vectors([codes], len(vectors), len(vectors), 16)
    half = (vectors.amax(1) - vectors.amin(1)) / 255 / 2
    error = (table.take(torch.arange(len(vectors))) - vectors).abs().amax(1)
    assert (error <= half * 1.001 + 1e-7 * vectors.abs().amax(1)).all() and error.max() > 0
    assert torch.equal(table.take(torch.tensor([50, 51])), vectors[50:])


def test_eight_bits_score_nearly_the_same_in_a_quarter_of_the_size(home: Path, tmp_path: Path) -> None:
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
    monkeypatch.setattr(parts, "quantise", lambda vectors: quantise(vectors * 0))
    with process_group() as ranks, pytest.raises(InputError, match="8-bit tables change the AUC"):
        export(made, ranks, int8=True)
    take = Vectors.take
    monkeypatch.setattr(Vectors, "take", lambda self, rows: take(self, rows) * 1.01)
    with process_group() as ranks, pytest.raises(InputError, match="a probe row scores"):
        export(made, ranks)
    assert not (tmp_path / "run" / "export").exists() and not list((tmp_path / "run").glob(".export*"))
