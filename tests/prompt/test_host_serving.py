"""The network in a bundle and in deltas: new feedback reaches served scores and checkpoints without retraining."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys import settings
from recsys.coldrows.frozen import Frozen
from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.feedback import NEVER
from recsys.data.ids import IdMap
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.prompt.host.asked import Asked
from recsys.prompt.host.beside import Host
from recsys.prompt.host.network import Network, folder_of
from recsys.prompt.host.serving import TABLE, answer, exported
from recsys.prompt.host.training import probabilities
from recsys.tables import checkpoint
from recsys.tables.bundle import Bundle
from recsys.tables.checkpoint import Progress
from recsys.tables.delta import Delta
from recsys.tables.probe import raw_rows
from recsys.tables.rows import Rows
from recsys.tables.stored import ROWS, StoredTensor
from tests import arrived
from tests.prompt.test_host import config, files_of, frozen, live
from tests.ranks import run_ranks
from tools import prompt as command


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Config]:
    """By `prompt.model.parameters` a network whose last layer is not zero, with a bundle; each is made once."""

    @cache
    def make(parameters: str) -> Config:
        home = arrived.write(tmp_path_factory.mktemp(parameters))
        made = config(home, {"parameters": parameters}, epochs=0)
        with process_group() as ranks:
            arrived.run(made, ranks)
            network, _ = live(made, ranks)
            progress = Progress(step=1, best_auc=0.5, done=True)
            checkpoint.save(network.folder / "checkpoints", network.sharded, progress, 1, network.version.at(1))
            exported(made, ranks)
        return made

    return make


@pytest.fixture
def made(request: pytest.FixtureRequest, begun: Callable[[str], Config], tmp_path: Path) -> Config:
    """A copy that a test may change, on the same dataset."""
    one = begun(getattr(request, "param", "code"))
    shutil.copytree(one.run, tmp_path / "run")
    return replace(one, run=str(tmp_path / "run"))


EITHER = pytest.mark.parametrize("made", ["code", "rows"], indirect=True)


def feedback(made: Config, path: Path, rank: int = 2, above: int = 0) -> Path:
    """The rows of new items between ranks, as a file from elsewhere."""
    table = pq.read_table(split_files(made.data.path, "feedback")[0]).to_pandas()
    asked = table[(table["rank"] > above) & (table["rank"] <= rank)].drop(columns="rank")
    schema = pq.read_schema(split_files(made.data.path, "train")[0])
    pq.write_table(pa.Table.from_pandas(asked, schema, preserve_index=False), path)
    return path


def answered(made: Config, source: Path) -> Delta | None:
    with process_group() as ranks:
        return answer(made, source, ranks)


def bundle_scores(made: Config) -> np.ndarray:
    """[test rows] by the bundle, from raw columns."""
    encoder = Encoder.load(made, Path(made.run) / "encoder")
    table = pa.concat_tables(raw_rows(made, encoder, "test", 10_000))
    bundle = Bundle.load(folder_of(made) / "export")
    bundle.check()
    return bundle.score(table).numpy()


def live_scores(made: Config, source: Path | None) -> np.ndarray:
    """[test rows] by the network's best checkpoint, with lists that hold the rows of the file."""
    with process_group() as ranks:
        beside, base = frozen(made, ranks)
        network = Network.open(beside, base).restore()
        network.sharded.model.eval()
        host = Host.read(beside, network.rows, 0, [source] if source else [])
        asked = Asked.of_split(Path(made.data.path), "test", host.entities)
        # One that nobody is scored as: a served list leaves no user out.
        asked = replace(asked, user=np.full_like(asked.user, -1), second=np.full_like(asked.second, NEVER))
        batches = Reader(beside.encoder, "test", arrived.TEST).epoch()
        return probabilities(network, host, next(iter(batches)), asked).numpy()


@EITHER
def test_the_bundle_scores_as_the_network_does(made: Config) -> None:
    np.testing.assert_allclose(bundle_scores(made), live_scores(made, None), atol=1e-5)


@pytest.mark.parametrize("passes", [0, 3])
def test_new_feedback_changes_its_items_scores_by_a_delta(passes: int, made: Config, tmp_path: Path) -> None:
    made = replace(made, prompt=replace(made.prompt, tuning=replace(made.prompt.tuning, passes=passes)))
    before, base = bundle_scores(made), files_of(Path(made.run))
    trained = {path.name for path in (folder_of(made) / "checkpoints").iterdir()}
    source = feedback(made, tmp_path / "new.parquet")
    delta = answered(made, source)
    assert delta is not None and delta.tables[TABLE].audience == "serving"
    assert all(stored.rows == len(arrived.NEW) for stored in delta.tables.values())
    after = bundle_scores(made)
    test = pa.concat_tables(pq.read_table(file) for file in split_files(made.data.path, "test"))
    new = np.isin(test["item_id"].to_pylist(), arrived.NEW.to_pylist())
    assert np.array_equal(after[~new], before[~new]) and np.abs(after - before)[new].max() > 1e-6
    np.testing.assert_allclose(after[new], live_scores(made, source)[new], atol=1e-5)
    assert files_of(Path(made.run)) == base
    kept = {path.name for path in (folder_of(made) / "checkpoints").iterdir()}
    assert {name.partition(".")[0] for name in kept} == {name.partition(".")[0] for name in trained} and kept != trained
    assert answered(made, source) is None
    again = answered(made, feedback(made, tmp_path / "more.parquet", 4))
    assert again is not None and np.abs(bundle_scores(made) - after)[new].max() > 1e-6


@EITHER
def test_rows_of_the_delta_are_in_checkpoints_and_maps_for_any_ranks(made: Config, tmp_path: Path) -> None:
    delta = answered(made, feedback(made, tmp_path / "new.parquet"))
    assert delta is not None
    source, tables = checkpoint.best(folder_of(made) / "checkpoints"), delta.taken_by("training")
    names = {name: tensor for tensor in checkpoint.stored_tensors(source) for name in tables if f".{name}." in tensor}
    assert names.keys() == tables.keys() and checkpoint.version_of(source).delta == delta.last
    pieces = {name: next(delta.pieces(name)) for name in names}
    for name, piece in pieces.items():
        assert piece.state.max() > 0, "its optimizer's state goes with a row"
        stored = StoredTensor(source, names[name])
        torch.testing.assert_close(stored.take(piece.rows), piece.vectors, rtol=0, atol=0)
        sums = StoredTensor(source, name, ROWS).take(piece.rows)
        torch.testing.assert_close(sums.squeeze(1), piece.state, rtol=0, atol=0)
        ids = IdMap.load(folder_of(made) / "encoder" / f"{name}.parquet")
        assert ids.rows(arrived.NEW).tolist() == piece.rows.tolist() and ids.delta == delta.last
    asked = {name: piece.rows for name, piece in pieces.items()}
    for found in run_ranks(2, read_rows, made, asked):
        assert all(torch.equal(found[name], piece.vectors) for name, piece in pieces.items())


def read_rows(made: Config, asked: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with process_group() as ranks:
        beside: Frozen
        beside, base = frozen(made, ranks)
        rows = Rows(Network.open(beside, base).sharded, ranks)
        return {table: rows.read(table, named)[0] for table, named in asked.items()}


def test_an_export_holds_what_has_been_published(made: Config, tmp_path: Path) -> None:
    answered(made, feedback(made, tmp_path / "new.parquet"))
    after = bundle_scores(made)
    with process_group() as ranks:
        exported(made, ranks)
    np.testing.assert_allclose(bundle_scores(made), after, atol=1e-6)
    assert answered(made, tmp_path / "new.parquet") is None
    # Other passes are another answer.
    other = replace(made, prompt=replace(made.prompt, tuning=replace(made.prompt.tuning, passes=1)))
    assert answered(other, tmp_path / "new.parquet") is not None


def test_files_one_after_the_other_are_as_one(made: Config, tmp_path: Path) -> None:
    other = replace(made, run=str(tmp_path / "other"))
    shutil.copytree(made.run, other.run)
    for name, rank, above in (("first", 1, 0), ("second", 4, 1)):
        answered(made, feedback(made, tmp_path / f"{name}.parquet", rank, above))
    answered(other, feedback(other, tmp_path / "both.parquet", 4))
    np.testing.assert_allclose(bundle_scores(made), bundle_scores(other), atol=1e-6)
    assert answered(made, tmp_path / "first.parquet") is None


def test_bad_feedback_is_refused_and_changes_nothing(made: Config, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder_of(made).rglob("*") if path.is_file()}
    source = feedback(made, tmp_path / "new.parquet")
    table = pq.read_table(source)
    values = [float("nan"), *table["value"].to_pylist()[1:]]
    bad = table.set_column(table.column_names.index("value"), "value", pa.array(values, pa.float32()))
    pq.write_table(bad, tmp_path / "nan.parquet")
    with pytest.raises(InputError, match=r"nan.parquet: row group 0: column 'value': row 0: expected a finite number"):
        answered(made, tmp_path / "nan.parquet")
    train = pq.read_table(split_files(made.data.path, "train")[0]).slice(0, 3)
    pq.write_table(train, tmp_path / "warm.parquet")
    with pytest.raises(InputError, match="training rows: expected new items alone"):
        answered(made, tmp_path / "warm.parquet")
    assert {path: path.read_bytes() for path in folder_of(made).rglob("*") if path.is_file()} == before


def test_the_command(made: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.dump(made, tmp_path / "config.yaml")
    name, folder = str(tmp_path / "config.yaml"), folder_of(made)
    command.main([name, "--network", "--exposure", "2"])
    command.main([name, "--network", "--export"])
    command.main([name, "--network", "--feedback", str(feedback(made, tmp_path / "new.parquet"))])
    command.main([name, "--network", "--feedback", str(tmp_path / "new.parquet")])
    assert capsys.readouterr().out.splitlines() == [
        f"scores: {folder}/n=2/scores.parquet",
        f"bundle: {folder}/export",
        f"delta: {folder}/deltas/00000001-00000001",
        "no row of the network's tables has changed",
    ]
