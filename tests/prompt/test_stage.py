"""The stage: what it scores and publishes, what can and cannot reach it, and what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from recsys import settings
from recsys.coldrows.learned import Learned
from recsys.config import Config
from recsys.config_prompt import Prompt, Summary
from recsys.data.ids import IdMap
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.evaluate.pointwise import evaluate
from recsys.predict import predict
from recsys.prompt.stage import answer, prompt
from recsys.tables.bundle import Bundle
from recsys.tables.export import export
from tests import arrived, tiny
from tests.ranks import run_ranks
from tools import prompt as command

LOWEST = 1e-6


def config(home: Path, **summary: Any) -> Config:
    """With room in the item table for the new items."""
    summary = {"rows": 4, "draws": 2, "prior": 4.0, **summary}
    made = replace(arrived.config(home), item_capacity=tiny.ITEMS + 3)
    return replace(made, prompt=Prompt(summary=Summary(**summary)))


def begin(home: Path) -> Path:
    arrived.write(home)
    with process_group() as ranks:
        arrived.run(config(home), ranks)
        export(config(home), ranks)
    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begin(tmp_path_factory.mktemp("prompt"))


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(home, tmp_path / "own")
    made = config(tmp_path / "own")
    settings.dump(made, Path(made.run) / "config.yaml")
    return tmp_path / "own"


def prompted(home: Path, exposure: int, **summary: Any) -> Path:
    with process_group() as ranks:
        return prompt(config(home, **summary), exposure, ranks)


def scores(path: Path) -> np.ndarray:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    table = pa.concat_tables(pq.read_table(file) for file in files).sort_by("row_id")
    assert table["row_id"].to_pylist() == list(range(arrived.TEST))
    return table["score"].to_numpy()


def is_new(home: Path) -> np.ndarray:
    test = pa.concat_tables(pq.read_table(file, columns=["item_id"]) for file in split_files(home / "data", "test"))
    return np.isin(test["item_id"].to_pylist(), arrived.NEW.to_pylist())


def rewrite(home: Path, split: str, change: Callable[[pa.Table], pa.Table]) -> None:
    for file in split_files(home / "data", split):
        pq.write_table(change(pq.read_table(file, partitioning=None)), file)


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), values)


def test_feedback_moves_new_items_alone_and_none_is_the_base(home: Path) -> None:
    base, new = scores(home / "run" / "scores" / "test"), is_new(home)
    none, some, tuned = (
        scores(prompted(home, n, finetune=tune) / "scores.parquet") for n, tune in ((0, False), (4, False), (4, True))
    )
    np.testing.assert_allclose(none, base, atol=1e-6)
    for found in (none, some, tuned):
        assert np.array_equal(found[~new], base[~new])
    assert np.abs(some - base)[new].min() > LOWEST < np.abs(some - tuned)[new].max()
    told = [Learned.read(home / "run" / "prompt" / name / "n=4") for name in ("summary", "finetuned")]
    assert [each.about.found["items"] for each in told if each] == [4, 4]
    assert [each.about.found["gradient_steps"] > 0 for each in told if each] == [False, True]


def test_evaluation_takes_the_scores(home: Path) -> None:
    paths = {"base": home / "run" / "scores" / "test", "promo": prompted(home, 2) / "scores.parquet"}
    found = evaluate(config(home), paths, baseline="base", exposure=2)
    assert len(found["systems"]["promo"]["n=2"]["auc"]) == 3


def test_two_ranks_make_what_one_does(home: Path, own: Path) -> None:
    one = scores(prompted(home, 3) / "scores.parquet")
    shutil.rmtree(own / "run" / "prompt", ignore_errors=True)
    run_ranks(2, prompted, own, 3)
    np.testing.assert_allclose(scores(own / "run" / "prompt" / "summary" / "n=3" / "scores.parquet"), one, atol=1e-5)


def test_done_work_is_not_done_again_and_other_settings_are_other_work(own: Path) -> None:
    folder = prompted(own, 2)
    files = [own / "run" / "prompt" / "map.safetensors", folder / "rows.parquet", folder / "scores.parquet"]
    times = [file.stat().st_mtime_ns for file in files]
    prompted(own, 2)
    assert [file.stat().st_mtime_ns for file in files] == times
    (folder / "scores.parquet").unlink()
    prompted(own, 2)
    assert [file.stat().st_mtime_ns for file in files[:2]] == times[:2] and files[2].exists()
    before = load_file(files[0])
    prompted(own, 2, smoothing=1.0)
    assert all(file.stat().st_mtime_ns > time for file, time in zip(files, times, strict=True))
    assert not np.array_equal(load_file(files[0])["centre.state"], before["centre.state"])


def test_nothing_of_scored_rows_or_of_later_feedback_reaches_a_row(own: Path) -> None:
    """Planted: scored labels and values are flipped, and so are all feedback rows past the exposure."""
    before = scores(prompted(own, 2) / "scores.parquet")

    def flipped(table: pa.Table, rows: np.ndarray) -> pa.Table:
        label, value = table["label"].to_numpy(), table["value"].to_numpy()
        table = with_column(table, "label", pa.array(np.where(rows, 1 - label, label), pa.int8()))
        return with_column(table, "value", pa.array(np.where(rows, 9 - value, value), pa.float32()))

    rewrite(own, "test", lambda table: flipped(table, np.ones(table.num_rows, bool)))
    rewrite(own, "feedback", lambda table: flipped(table, table["rank"].to_numpy() > 2))
    shutil.rmtree(own / "run" / "prompt")
    assert np.array_equal(scores(prompted(own, 2) / "scores.parquet"), before)
    rewrite(own, "feedback", lambda table: flipped(table, table["rank"].to_numpy() == 2))
    shutil.rmtree(own / "run" / "prompt")
    assert np.abs(scores(prompted(own, 2) / "scores.parquet") - before)[is_new(own)].min() > 0


def published(home: Path, file: Path, **summary: Any) -> Any:
    with process_group() as ranks:
        return answer(config(home, **summary), file, ranks)[1]


def test_new_feedback_changes_the_served_score_by_a_delta(own: Path) -> None:
    feedback, served = own / "new.parquet", is_new(own)
    base = scores(own / "run" / "scores" / "test")
    rows = pq.read_table(split_files(own / "data", "feedback")[0], partitioning=None).drop_columns(["rank"])
    pq.write_table(rows.slice(0, 8), feedback)
    delta = published(own, feedback)
    assert delta and published(own, feedback) is None
    learned = Learned.read(own / "run" / "prompt" / "live")
    ids = IdMap.load(own / "run" / "encoder" / "item_id.parquet")
    assert learned
    held = Bundle.load(own / "run" / "export").vectors["item_id"].take(torch.from_numpy(ids.rows(learned.items)))
    assert torch.equal(held, learned.vectors)
    with process_group() as ranks:
        predict(config(own), "test", ranks)
    once = scores(own / "run" / "scores" / "test")
    assert np.array_equal(once[~served], base[~served]) and np.abs(once - base)[served].min() > LOWEST
    pq.write_table(rows, feedback)
    assert published(own, feedback, finetune=True)
    with process_group() as ranks:
        predict(config(own), "test", ranks)
    assert np.abs(scores(own / "run" / "scores" / "test") - once)[served].min() > LOWEST


def test_feedback_that_cannot_be_read_is_refused(own: Path) -> None:
    file = own / "new.parquet"
    rows = pq.read_table(split_files(own / "data", "feedback")[0], partitioning=None).drop_columns(["rank"])

    def refused(table: pa.Table | None, message: str) -> None:
        file.unlink(missing_ok=True)
        if table is not None:
            pq.write_table(table, file)
        with pytest.raises(InputError, match=message):
            published(own, file)

    refused(None, r"new\.parquet: no feedback: No such file")
    refused(rows.slice(0, 0), "expected rows of new items, found none")
    refused(rows.drop_columns(["value"]), "expected columns .*'value' is missing")
    warm = with_column(rows, "item_id", pa.array(["item 00"] * rows.num_rows))
    refused(warm, r"item 00 has \d+ training rows: expected new items alone")
    bad = with_column(rows, "value", pa.array([np.nan] * rows.num_rows, pa.float32()))
    refused(bad, r"row group 0: column 'value', row 0: expected a finite number or null, found nan")
    assert not (own / "run" / "prompt" / "live").exists() and not list((own / "run" / "deltas").glob("*"))


def test_an_unknown_user_is_nobody_and_values_may_be_absent(own: Path) -> None:
    def stranger(table: pa.Table) -> pa.Table:
        table = with_column(table, "user_id", pa.array(["nobody"] * table.num_rows))
        return with_column(table, "value", pa.nulls(table.num_rows, pa.float32()))

    rewrite(own, "feedback", stranger)
    assert np.isfinite(scores(prompted(own, 4) / "scores.parquet")).all()


def test_a_damaged_map_is_refused(own: Path) -> None:
    prompted(own, 2)
    (own / "run" / "prompt" / "map.safetensors").write_bytes(b"\x01")
    shutil.rmtree(own / "run" / "prompt" / "summary")
    with pytest.raises(InputError, match=r"map\.safetensors: damaged: expected what tools\.prompt writes"):
        prompted(own, 2)


def test_more_rows_than_were_kept_are_refused(home: Path) -> None:
    with pytest.raises(InputError, match="exposure 9: 5 rows of each new item were kept at most"):
        prompted(home, 9)


def test_the_command(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = own / "config.yaml"
    settings.dump(config(own), given)
    command.main([str(given), "--exposure", "2"])
    folder = own / "run" / "prompt" / "summary" / "n=2"
    assert capsys.readouterr().out == f"rows: {folder} (4 items with feedback)\nscores: {folder / 'scores.parquet'}\n"
    with pytest.raises(SystemExit):
        command.main([str(given), "--exposure", "2", "--feedback", "new.parquet"])
