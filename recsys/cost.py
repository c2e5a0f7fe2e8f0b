"""What a system of any size costs, reckoned from what a unit of each part was measured to cost.

Nothing here is measured and no part is modelled beyond proportion: what grows faster than its size is not told.
"""

from typing import NamedTuple

from recsys.config_cost import Cost

GIB, TIB = 2.0**30, 2.0**40
_DAY, _HOUR = 86400, 3600


class Line(NamedTuple):
    """One cost: of what, how much of which unit, and how it comes about."""

    name: str
    amount: float
    unit: str
    by: str


def lines(cost: Cost) -> list[Line]:
    """Memory of tables and index, latency of a search, machines and bytes of a day."""
    size, unit = cost.size, cost.unit
    row = size.dim * size.bytes + unit.sums
    tables = (size.users + size.items) * row
    place = size.code + unit.place
    looked = size.users * size.probe / size.lists
    pairs = size.new_items * size.judged
    carried = unit.delta * size.dim / 64
    return [
        Line(
            "tables and their Adagrad sums", tables / TIB, "TiB", f"{size.users + size.items:,} rows of {row:g} bytes"
        ),
        Line("of them on a rank", tables / size.ranks / GIB, "GiB", f"row-wise over {size.ranks} ranks"),
        Line("user index, flat", 4 * size.width * size.users / GIB, "GiB", f"{4 * size.width} bytes a user"),
        Line("user index, IVF-PQ", place * size.users / GIB, "GiB", f"{place:g} bytes a user"),
        Line(
            "its search, an item",
            (size.lists * unit.centre_ns + looked * unit.code_ns) / 1e6,
            "ms",
            f"{size.lists:,} cells' centres and {looked:,.0f} codes looked at by one core",
        ),
        Line("judging new items", pairs / unit.pairs / _HOUR, "judge hours a day", f"{pairs:,} pairs"),
        Line("judges for that", pairs / unit.pairs / _DAY, "judges", f"{unit.pairs:g} pairs a second each"),
        Line("delta of new items", size.new_items * carried / GIB, "GiB a day", f"{carried:g} bytes a row"),
        Line("delta of training", size.touched * carried / GIB, "GiB a day", f"{size.touched:,} rows touched"),
        Line("training", size.rows / unit.rows / _DAY, "pairs of ranks", f"{unit.rows:,.0f} rows a second each"),
    ]
