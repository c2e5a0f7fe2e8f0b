"""The policy's rows and scores: each item by its own feedback, each replayed row by its own past, and no future."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from recsys import settings
from recsys.coldrows.frozen import Frozen
from recsys.coldrows.learned import About, Learned
from recsys.config import Config
from recsys.config_lifecycle import Lifecycle, Stage
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.evaluate import arrivals
from recsys.evaluate.pointwise import evaluate
from recsys.lifecycle.stage import at_exposure, replay
from recsys.prompt.stage import prompt
from tests import arrived
from tests.prompt.test_stage import begin, is_new, rewrite, scores, with_column
from tests.prompt.test_stage import config as prompting
from tests.ranks import run_ranks

READ = [Stage(rows=0, source="start"), Stage(rows=1, source="read")]


def config(home: Path, stages: list[Stage] = READ, **lifecycle: Any) -> Config:
    return replace(prompting(home), lifecycle=Lifecycle(stages=stages, **{"replay": [1, 2, 4], **lifecycle}))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begin(tmp_path_factory.mktemp("lifecycle"))


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(home, tmp_path / "own", ignore=shutil.ignore_patterns("lifecycle", "prompt"))
    made = config(tmp_path / "own")
    settings.dump(made, Path(made.run) / "config.yaml")
    return tmp_path / "own"


def exposed(made: Config, exposure: int) -> Path:
    with process_group() as ranks:
        return at_exposure(made, exposure, ranks)


def replayed(made: Config) -> np.ndarray:
    with process_group() as ranks:
        return scores(replay(made, ranks) / "scores.parquet")


def test_a_policy_of_one_source_is_that_source(home: Path) -> None:
    folder = exposed(config(home), 2)
    with process_group() as ranks:
        alone = prompt(config(home), 2, ranks)
    np.testing.assert_allclose(scores(folder / "scores.parquet"), scores(alone / "scores.parquet"), atol=1e-6)
    nothing = scores(exposed(config(home), 0) / "scores.parquet")
    np.testing.assert_allclose(nothing, scores(home / "run" / "scores" / "test"), atol=1e-6)


def test_between_stages_rows_are_blended(home: Path) -> None:
    mixed = exposed(config(home, [Stage(rows=0, source="start"), Stage(rows=3, source="read")], name="mixed"), 1)
    half, read = Learned.read(mixed), Learned.read(exposed(config(home, name="read"), 1))
    assert half is not None and read is not None
    with process_group() as ranks:
        start = Frozen.load(config(home), arrived.NEW, ranks).unknown()
    torch.testing.assert_close(half.vectors, (start + read.vectors) / 2, rtol=1e-5, atol=1e-6)


def test_feedback_alone_is_tuned_on_and_no_map_is_learned(own: Path) -> None:
    """The same rows as where a map is learned that no item's number of rows asks for."""
    tuned = [Stage(rows=0, source="start"), Stage(rows=1, source="tuned")]
    found = Learned.read(exposed(config(own, tuned), 1))
    assert not (own / "run" / "prompt" / "map.safetensors").exists()
    other = Learned.read(exposed(config(own, [*tuned, Stage(rows=2, source="read")], name="other"), 1))
    assert (own / "run" / "prompt" / "map.safetensors").exists()
    assert found is not None and other is not None and found.about.found["sources"]["tuned"]["gradient_steps"] > 0
    assert torch.equal(found.vectors, other.vectors)
    assert found.about.found["stages"] == [{"rows": 0, "source": "start"}, {"rows": 1, "source": "tuned"}]


def test_simulated_rows_come_from_the_simulator_and_must_be_of_these_tables(own: Path) -> None:
    made = config(own, [Stage(rows=0, source="simulated")])
    with pytest.raises(InputError, match=r"simulated/rows\.parquet: expected rows that simulated users taught"):
        exposed(made, 0)
    known = Learned.read(exposed(config(own), 0))
    assert known is not None
    vectors = torch.arange(2.0)[:, None] + torch.zeros(2, known.vectors.shape[1])
    taught = Learned(arrived.NEW.take([2, 0]), vectors, About(key="", base=known.about.base, found={}, seconds=0.0))
    (folder := own / "run" / "simulator" / "simulated").mkdir(parents=True)
    taught.save(folder)
    found = Learned.read(exposed(made, 0))
    assert found is not None
    assert found.vectors[2].eq(0).all() and found.vectors[0].eq(1).all()
    torch.testing.assert_close(found.vectors[[1, 3]], known.vectors[[1, 3]])
    Learned(taught.items, vectors, About(key="again", base="other", found={}, seconds=0.0)).save(folder)
    with pytest.raises(InputError, match="found rows for other"):
        exposed(made, 0)


def test_a_replayed_row_is_scored_by_the_first_rows_of_its_item(home: Path) -> None:
    """Each stage of the replay equals the exposure stage on a dataset whose feedback is the item's first rows."""
    found, new = replayed(config(home)), is_new(home)
    base = scores(home / "run" / "scores" / "test")
    assert np.array_equal(found[~new], base[~new])
    log = arrivals.read(home / "data", arrived.NEW)
    table = pa.concat_tables(pq.read_table(file, partitioning=None) for file in split_files(home / "data", "test"))
    first = table.take(log.row_id).append_column("rank", pa.array(log.rank))
    for stage, (most, end) in enumerate([(0, 1), (1, 2), (2, 4), (4, 10**9)]):
        rows = log.row_id[(log.seen >= most) & (log.seen < end)]
        assert len(rows), stage
        expected = base
        if most:
            other = home.parent / f"first-{most}-{home.name}"
            shutil.copytree(home, other, ignore=shutil.ignore_patterns("lifecycle", "prompt"))
            folder = other / "data" / "interactions" / "split=feedback"
            pq.write_table(first.filter(pc.less_equal(first["rank"], most)), folder / "part-00000.parquet")
            settings.dump(config(other), other / "run" / "config.yaml")
            expected = scores(exposed(config(other), most) / "scores.parquet")
        np.testing.assert_allclose(found[rows], expected[rows], atol=1e-5)


def test_the_future_cannot_be_seen(own: Path) -> None:
    """Labels and values of all rows from some second on are turned: no earlier score of the replay moves."""
    before = replayed(config(own))
    tables = [pq.read_table(file, partitioning=None) for file in split_files(own / "data", "test")]
    times = pa.concat_tables(tables)["timestamp"].to_numpy()
    second = int(np.median(times))

    def turned(table: pa.Table) -> pa.Table:
        later = pc.greater_equal(table["timestamp"], second)
        label, value = table["label"], table["value"]
        flipped = pc.subtract(pa.scalar(1, label.type), label)
        changed = with_column(table, "label", pc.if_else(later, flipped, label))
        return with_column(changed, "value", pc.if_else(later, pc.negate(value), value))

    rewrite(own, "test", turned)
    shutil.rmtree(own / "run" / "lifecycle")
    after, new = replayed(config(own)), is_new(own)
    log = arrivals.read(own / "data", arrived.NEW)
    early = new & (times <= second)
    assert early.sum() > 10 and np.array_equal(before[early], after[early])
    done = int((before[new & (times > second)] != after[new & (times > second)]).sum())
    assert done > 5 and log.seen.max() > 4, "the positive control: later scores do move"


def test_two_ranks_replay_as_one(home: Path, own: Path) -> None:
    one = replayed(config(home))
    run_ranks(2, replayed, config(own))
    two = scores(own / "run" / "lifecycle" / "road" / "replay" / "scores.parquet")
    np.testing.assert_allclose(two, one, atol=1e-5)


def test_results_by_impressions(home: Path) -> None:
    replayed(config(home))
    paths = {
        "base": home / "run" / "scores" / "test",
        "road": home / "run" / "lifecycle" / "road" / "replay" / "scores.parquet",
    }
    found = evaluate(config(home), paths, by="impressions")["systems"]["road"]
    log = arrivals.read(home / "data", arrived.NEW)
    assert found["seen"]["rows"] == len(log.row_id)
    for name, low, high in (("seen=0", 0, 1), ("seen=2", 2, 4), ("seen=8", 8, 16)):
        assert found[name]["rows"] == ((log.seen >= low) & (log.seen < high)).sum()
    with pytest.raises(InputError, match="made from what came before each row of a replay, not 0"):
        evaluate(config(home), {"road": paths["road"]})
    with pytest.raises(InputError, match="exposure=2: expected 0 by impressions"):
        evaluate(config(home), paths, exposure=2, by="impressions")
    with pytest.raises(InputError, match="only test rows are replayed"):
        evaluate(config(home), paths, "valid", by="impressions")
