"""What `tools.cost` is told: how large a system is, and what one unit of each part was measured to cost."""

from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Above, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Size:
    """A system and its day."""

    users: Positive = 1_000_000_000
    """Users, each with a row of the user table and a place in the index."""
    items: Positive = 100_000_000
    """Items, each with a row of the item table."""
    new_items: Positive = 1_000_000
    """Items that appear in a day: simulated, and sent to serving."""
    rows: Positive = 10_000_000_000
    """Impressions a day that are trained on."""
    dim: Positive = 64
    """D, width of both tables."""
    bytes: Annotated[int, Field(ge=1, le=4)] = 4
    """Of a value of a table: 4 is fp32, 2 fp16."""
    ranks: Positive = 64
    """Ranks that the tables are laid over, row-wise."""
    touched: Positive = 50_000_000
    """Rows that a day of training changes and a delta carries."""
    width: Positive = 128
    """Width of the filter's vectors."""
    code: Positive = 32
    """Bytes of a user's IVF-PQ code."""
    lists: Positive = 131_072
    """Cells of the index."""
    probe: Positive = 64
    """Cells searched for an item."""
    judged: Positive = 50
    """Pairs judged for a new item."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Unit:
    """What was measured, and by what: rows of `make bench` on its machine unless you have your own."""

    sums: Above = 4.0
    """Bytes of a row's Adagrad sum (`tools.train --plan`)."""
    place: Above = 8.0
    """Bytes that a user takes in an IVF-PQ index besides the code: the id (row `index`)."""
    centre_ns: Above = 19.0
    """Nanoseconds of one core for a cell's centre that a search compares with (row `index`)."""
    code_ns: Above = 18.0
    """Nanoseconds of one core for a code that a search looks at (row `index`)."""
    pairs: Above = 27.0
    """Pairs a second that one judge answers (row `judge-shared`)."""
    delta: Above = 240.0
    """Bytes of a delta's row of 64 numbers, as compressed (row `delta`)."""
    rows: Above = 21_664.0
    """Impressions a second that two ranks train on (row `train`)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cost:
    """A system at its size, by what a unit costs."""

    size: Size = field(default_factory=Size)
    """How large it is."""
    unit: Unit = field(default_factory=Unit)
    """What a unit costs."""
