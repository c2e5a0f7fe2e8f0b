"""The profiler's trace: of as many steps as asked, on every rank; of fewer where the run ends."""

import json
from pathlib import Path

from recsys.config import Config
from recsys.distributed import process_group
from recsys.train import train
from tests import tiny
from tests.ranks import run_ranks

TRAIN = {"batch_size": 16, "epochs": 1, "hide_ids": 0.0}


def train_both(configs: list[Config]) -> None:
    with process_group() as ranks:
        for config in configs:
            train(config, ranks)


def test_the_trace_holds_the_steps_asked_for(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "data")
    # An epoch has 7 steps on two ranks; two of them come before.
    asked = {
        name: tiny.config(path, tmp_path / name, train={**TRAIN, "profile": int(name)}) for name in ("3", "99", "0")
    }
    run_ranks(2, train_both, list(asked.values()))
    for name, steps in (("3", 3), ("99", 5)):
        for rank in range(2):
            found = json.loads((tmp_path / name / "profile" / f"rank-{rank}.json").read_text())
            spans = [each["name"] for each in found["traceEvents"] if each.get("cat") == "user_annotation"]
            assert sum(span.startswith("## backward ") for span in spans) == steps
    assert not (tmp_path / "0" / "profile").exists()
