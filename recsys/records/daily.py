"""Records `daily-*`: a model that goes on from day to day, beside one never updated and one trained anew at the end."""

import json
from dataclasses import dataclass
from pathlib import Path

from recsys.daily import report
from recsys.records.commands import RANKS


@dataclass(frozen=True)
class Case:
    """A log with days."""

    name: str
    words: str
    """Config and overrides."""
    before: tuple[str, ...] = ()
    """What makes the log."""

    @property
    def run(self) -> Path:
        return Path("runs/records") / self.name

    def commands(self) -> list[str]:
        """All days."""
        words = f"{self.words} run={self.run} data.path=data/{self.name} daily.anew=99"
        return [*self.before, f"{RANKS} tools.daily {words}"]

    def table(self) -> str:
        """Each day ahead, and what is kept of the first."""
        found = json.loads((self.run / "daily.json").read_text())
        told = "One run, one seed; 95 % intervals, resampling users and items, of the rows and not of the weights."
        return f"{report.markdown(found)}\n\n{told}"


def kuairand(path: str | None) -> Case:
    """Two weeks, the first four days as one."""
    words = f"configs/kuairand-pure.yaml configs/daily.yaml data.source.path={path} daily.utc_offset=8"
    return Case("daily-kuairand", words)


def generated() -> Case:
    """Five days, the first two as one."""
    words = "configs/generated.yaml configs/daily.yaml daily.base=2"
    return Case("daily-generated", words, ("python -m tools.generate configs/generate.yaml",))
