"""What a simulation leaves: whom it played, and who would take which cold item.

    <run>/simulator/<name>/simulated.parquet    user_id, item_id: raw ids; filter: float32, the filter's score; yes:
                                                float32, P(Yes), null where not judged; qualified: bool
    <run>/simulator/<name>/about.json           About

Rows are all candidates, by item in the order of the population, each item's best first.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Config
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.files import replacing

ROWS, ABOUT = "simulated.parquet", "about.json"
COLUMNS = ("user_id", "item_id", "filter", "yes", "qualified")


@dataclass(frozen=True, kw_only=True)
class Refining:
    """What was asked, the calibration's pairs not among it, and what it took."""

    judge: str
    """Digest of who answered."""
    threshold: dict[str, Any]
    """`threshold.Threshold`."""
    judged: int
    """Pairs answered by the judge."""
    known: int
    """Pairs answered before: by the journal, or as an equal question."""
    shared: float
    """Pairs, on average, for each context that a call had to read."""
    adoption: float
    """Share of the pairs that qualified (LLM-InS, table 5)."""
    seconds: float
    """Of the slowest rank; where it was resumed, since then."""
    items_per_hour: float | None
    """Cold items an hour and CPU core, or accelerator, at the judge's rate; None where it answered nothing."""


@dataclass(frozen=True, kw_only=True)
class About:
    """How a simulation was made."""

    dataset: str
    """Fingerprint."""
    settings: dict[str, Any]
    """The config's `simulator.funnel`."""
    items: int
    """Cold items simulated."""
    left_out: int
    """Cold items without a text or a vector of the filter."""
    refining: Refining | None
    """None where nobody was asked."""
    seconds: float
    """Of all, the calibration included."""


def folder_of(config: Config) -> Path:
    """Where a config's simulation is."""
    return Path(config.run) / "simulator" / config.simulator.name


def write(folder: Path, rows: pa.Table, about: About) -> None:
    """Replace the folder, whole, with what was made from an older simulation; one that came out the same stays."""
    if _same(folder, rows, about):
        return
    with replacing(folder) as temporary:
        temporary.mkdir()
        pq.write_table(rows.replace_schema_metadata({"dataset": about.dataset}), temporary / ROWS)
        (temporary / ABOUT).write_text(json.dumps(asdict(about), indent=1, allow_nan=False) + "\n")


def _same(folder: Path, rows: pa.Table, about: About) -> bool:
    try:
        return read_about(folder).settings == about.settings and read(folder, about.dataset).equals(rows)
    except InputError:
        return False


def read(folder: Path, fingerprint: str = "") -> pa.Table:
    """The rows, some 40 bytes each.

    Raises:
        InputError: not there, damaged, or made on another dataset than that of the fingerprint.
    """
    path = folder / ROWS
    if not path.exists():
        raise InputError(f"{path}: no such simulation: make it with tools.simulate")
    tables = [table for _, table in read_groups(path, list(COLUMNS))]
    made_on = (tables[0].schema.metadata or {}).get(b"dataset", b"").decode() if tables else ""
    if fingerprint and made_on != fingerprint:
        raise InputError(f"{path}: simulated on another dataset: make it anew with tools.simulate")
    return pa.concat_tables(tables)


def read_about(folder: Path) -> About:
    """How it was made.

    Raises:
        InputError: not there, or not whole.
    """
    try:
        told = json.loads((folder / ABOUT).read_text())
        refining = told.pop("refining")
        return About(**told, refining=refining and Refining(**refining))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder / ABOUT}: expected what tools.simulate writes: {error}") from None
