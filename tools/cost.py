"""Reckon what a system of any size costs: tables, index, judge, deltas, training, by what was measured of a unit.

python -m tools.cost configs/cost.yaml
python -m tools.cost configs/cost.yaml size.users=50000000 size.ranks=8 unit.pairs=2000
"""

from rich.table import Table

from recsys import settings
from recsys.config_cost import Cost
from recsys.cost import lines
from recsys.evaluate.report import wide
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, reckon, print."""
    arguments = _cli.parser(__doc__, Cost).parse_intermixed_args(argv)
    table = Table("cost", "amount", "unit", "by")
    for line in lines(settings.load_as(Cost, arguments.config, arguments.overrides)):
        table.add_row(line.name, f"{line.amount:,.1f}", line.unit, line.by)
    wide().print(table)


if __name__ == "__main__":
    _cli.run(main)
