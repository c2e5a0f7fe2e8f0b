"""A daily run belongs to one past: what its runs were begun on is compared before anything else is done.

<run>/day-00007/daily/days.json    the fingerprints of the days that the run is of
"""

import json
from collections.abc import Sequence
from pathlib import Path

from recsys import runs
from recsys.config import Config
from recsys.data.days import Day
from recsys.errors import InputError
from recsys.files import replacing


def same(made: Config, days: Sequence[Day]) -> None:
    """Refuse a run that was begun on other days, or with another config; of a new one, write down its days.

    Raises:
        InputError: the first day that is another, or the first key (`recsys.runs.require`), and what can be done.
    """
    path, now = Path(made.run) / "daily" / "days.json", {day.name: day.fingerprint for day in days}
    if not path.exists():
        with replacing(path) as partial:
            partial.write_text(json.dumps(now, indent=1))
    began = json.loads(path.read_text())
    if began.keys() != now.keys():
        raise InputError(f"{made.run}: is of {_named(began)}, not of {_named(now)} (daily.base?): give another run=...")
    for day in days:
        if began[day.name] != day.fingerprint:
            raise InputError(f"{made.run}: {_other(began[day.name], day, path.parts[-3])}, or give another run=...")
    if (Path(made.run) / "config.yaml").exists():
        runs.require(made)


def _named(days: dict[str, str]) -> str:
    first, last = min(days), max(days)
    return first if first == last else f"{first} to {last}"


def _other(began: str, day: Day, run: str) -> str:
    if began.partition(".")[0] != day.settings:
        return (
            f"{day.name} had other columns (users, items, context) or settings (data, daily.utc_offset) when the run "
            "was begun: put them back"
        )
    return (
        f"{day.name} has other rows than when the run was begun, by late ones or since it was not over "
        f"(daily.last=false waits): put the log back, or remove {run} and the runs after it to go on from there, which "
        "takes the checkpoint of the day before (daily.keep)"
    )
