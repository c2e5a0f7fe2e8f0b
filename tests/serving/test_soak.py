"""Load from another process while deltas apply every second: every answer checked, nothing refused, memory flat.

SOAK=600 makes it ten minutes.
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys.serving.load import Load
from recsys.serving.process import started
from tests.serving.served import VERSION, Rows, Run, cases

SECONDS = float(os.environ.get("SOAK", "10"))
CLIENTS = 8
GROWTH = 24 << 20
"""Bytes of its own that the server may have more at the end than a third of the way."""


def own_memory(process: int) -> int:
    """Bytes that are the process's alone: mapped files do not count."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) << 10


def test_every_answer_under_load_is_by_the_version_that_it_names(run: Run) -> None:
    names = [f"item {k:02d}" for k in range(24)]
    asked = cases(run.made, [1, 4, 16, 40, 2, 8], *names[:8])
    bodies = [json.dumps(case.body).encode() for case in asked]
    expected = {VERSION.name: [run.plain.score(case.rows).numpy() for case in asked]}
    rows: Rows = {run.row(name): name for name in names}
    rows |= {run.free() + k: f"new {k}" for k in range(3)}
    memory: list[int] = []
    with started(run.made) as (process, address):
        with Load(address, bodies, CLIENTS, SECONDS) as load:
            end = time.monotonic() + SECONDS - 1
            while time.monotonic() < end:
                time.sleep(1)
                number = run.append("item_id", rows, seed=len(memory))
                name = replace(VERSION, delta=number).name
                expected[name] = [run.plain.score(case.rows).numpy() for case in asked]
                memory.append(own_memory(process.pid))
        answers = {name: 0 for name in expected}
        for answered in load.answers():
            assert answered.status == 200, answered
            told = json.loads(answered.told)
            assert told["store"] == "up"
            np.testing.assert_allclose(told["probabilities"], expected[told["version"]][answered.body], atol=1e-6)
            answers[told["version"]] += 1
        process.terminate()
        assert process.wait(20) in (0, -15)
    print(f"{sum(answers.values())} answers by {len(answers)} versions, {memory[0] >> 20} to {memory[-1] >> 20} MiB")
    assert sum(count > 0 for count in answers.values()) >= len(answers) - 2, answers
    assert memory[-1] - memory[len(memory) // 3] < GROWTH, memory
