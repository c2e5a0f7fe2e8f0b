"""A trace of some of a run's steps by torch's profiler."""

from pathlib import Path
from typing import Any

from torch.profiler import profile, schedule

_BEFORE = 2
"""Steps that are not recorded: the first ones allocate, and the profiler itself warms up in the second."""


class Profile:
    """Records `steps` steps into `<run>/profile/rank-<n>.json`, in Chrome's trace format; 0 steps: nothing.

    A run that ends before leaves a trace of the steps that there were.
    """

    def __init__(self, run: Path, rank: int, steps: int) -> None:
        self._path = run / "profile" / f"rank-{rank}.json"
        self._steps = steps
        self._on: profile | None = None

    def __enter__(self) -> "Profile":
        if self._steps:
            plan = schedule(wait=_BEFORE - 1, warmup=1, active=self._steps, repeat=1)
            self._on = profile(schedule=plan, on_trace_ready=self._write)
            self._on.start()
        return self

    def step(self) -> None:
        """Tell that a step is done."""
        if self._on:
            self._on.step()

    def __exit__(self, *_: object) -> None:
        if self._on:
            self._on.stop()

    def _write(self, found: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(self._path))
