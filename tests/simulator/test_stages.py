"""The stages by name: each needs what it uses."""

from dataclasses import replace
from pathlib import Path

import pytest

from recsys.config import Config
from recsys.distributed import process_group
from recsys.errors import InputError
from simulator import stages
from simulator.stages import Stage
from tests.simulator import simulations


def done(made: Config, *asked: Stage) -> list[str]:
    with process_group() as ranks:
        return list(stages.run(made, asked, ranks))


def test_only_what_asks_the_judge_needs_its_adapter(here: Path) -> None:
    made = simulations.config(publish=False)
    untuned = replace(made.simulator, judge=replace(made.simulator.judge, tuned=False))
    assert done(replace(made, simulator=untuned), "tune") == ["adapter: none is tuned, as simulator.judge says"]
    [told] = done(made, "update")
    assert told.startswith("rows: run/simulator/simulated (") and told.endswith("no row of the tables has changed")
    for stage in ("filter", "users"):
        with pytest.raises(InputError, match=r"simulator/adapter: no adapter yet: run tools\.simulate tune"):
            done(made, stage)
    funnel = replace(made.simulator.funnel, refine=False)
    with pytest.raises(InputError, match="expected vectors in user_id"):
        done(replace(made, simulator=replace(made.simulator, funnel=funnel)), "users")
