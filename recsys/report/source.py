"""What a report is made from: a run's results.json, and the scores that lie in it or are named."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, ValidationError

from recsys.config import Config
from recsys.data.vectors import opened
from recsys.errors import InputError

Triple = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Entry = dict[str, int | Triple]
Table = dict[str, dict[str, Entry]]


class Results(BaseModel):
    """results.json, its shape checked."""

    dataset: str
    split: str
    seeds: list[int]
    systems: Table
    differences: Table = {}
    reliability: dict[str, dict[str, list[Triple]]] = {}
    switches: dict[str, dict[str, str]] = {}
    seconds: dict[str, FiniteFloat] = {}

    def metric(self, table: Table, name: str) -> dict[str, dict[str, Triple]]:
        """{segment: {system: [value, low, high]}} of `systems` or `differences`, without those that lack the metric."""
        found: dict[str, dict[str, Triple]] = {}
        for system, by_segment in table.items():
            for segment, entry in by_segment.items():
                if isinstance(triple := entry.get(name), tuple):
                    found.setdefault(segment, {})[system] = triple
        return found


@dataclass(frozen=True)
class Scored:
    """A system's scores of the test rows, made from so many kept rows of each new item."""

    system: str
    exposure: int
    path: Path

    @property
    def title(self) -> str:
        """In panels."""
        return f"{self.system}, n={self.exposure}" if self.exposure else self.system


@dataclass(frozen=True)
class Source:
    """A run, as a report sees it.

    Attributes:
        words: config file and overrides, as on the command line.
    """

    config: Config
    words: str
    results: Results
    scores: list[Scored]

    @property
    def run(self) -> Path:
        """The run's folder."""
        return Path(self.config.run)

    def command(self, tool: str, *switches: str) -> str:
        """The command line of a tool on this run."""
        return " ".join(["python -m", tool, self.words, *filter(None, switches)])

    def evaluations(self) -> list[str]:
        """The commands that judged the results, each with all the scores that it was given."""
        told = dict.fromkeys(each for by_segment in self.results.switches.values() for each in by_segment.values())
        return [self.command("tools.evaluate", each) for each in told or [""]]


def read(config: Config, words: str, named: dict[str, Path]) -> Source:
    """A run's results, and the scores in it; `named` scores take the place of those of the same system.

    Raises:
        InputError: results.json is not there or not of its shape, or a scores file is not Parquet.
    """
    path = Path(config.run) / "results.json"
    found = read_json(path)  # not the replicates beside it: each may be as large as all else
    if found is None:
        raise InputError(f"{path}: no such results: make them with python -m tools.evaluate {words}")
    try:
        told = Results.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    scores = [one for one in _lying(config) if one.system not in named]
    scores += [Scored(name, _exposure(file), file) for name, file in named.items()]
    places = {name: k for k, name in enumerate(told.systems)}
    scores.sort(key=lambda one: (one.exposure, places.get(one.system, len(places))))
    return Source(config, words, told, scores)


def _lying(config: Config) -> list[Scored]:
    """Scores where the stages of a run put them."""
    run = Path(config.run)
    prompted = {_exposure(path): path for path in run.glob("prompt/summary/n=*/scores.parquet")}
    found = [
        Scored("base", 0, run / "scores" / "test"),
        Scored("simulated", 0, run / "simulator" / config.simulator.name / "scores.parquet"),
        *(Scored("promo", exposure, prompted[exposure]) for exposure in sorted(prompted)),
    ]
    return [one for one in found if one.path.exists()]


def _exposure(path: Path) -> int:
    """That a predictions file or folder tells of itself."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        return 0
    with opened(files[0]) as file:
        told = (file.schema_arrow.metadata or {}).get(b"exposure", b"0").decode()
    return int(told) if told.isdigit() else 0


def read_json(path: Path) -> dict[str, Any] | None:
    """A step's record; None where there is none.

    Raises:
        InputError: not a JSON object.
    """
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON (half written?): {error}") from None
    if not isinstance(told, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(told).__name__}")
    return told
