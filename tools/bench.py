"""Measure our speed against bare libraries on this machine; writes runs/bench.json.

python -m tools.bench configs/bench.yaml
python -m tools.bench configs/bench.yaml --only train
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from recsys.bench.frame import Row, amount, bench
from tools import _cli

ROWS = {
    "train": Row("recsys.bench.train:measure", ranks=2),
    "reader": Row("recsys.bench.reader:measure", ranks=1),
    "memory": Row("recsys.bench.scale:measure_memory", ranks=1),
    "start": Row("recsys.bench.scale:measure_start", ranks=1),
    "auc": Row("recsys.bench.auc:measure", ranks=1),
    "export": Row("recsys.bench.bundle:measure_export", ranks=1),
    "load": Row("recsys.bench.bundle:measure_load", ranks=1),
    "rank": Row("recsys.bench.rank:measure", ranks=1),
    "rows-write": Row("recsys.bench.rows:measure_write", ranks=1),
    "rows-read": Row("recsys.bench.rows:measure_read", ranks=1),
    "rows-size": Row("recsys.bench.rows:measure_size", ranks=1),
    "slot": Row("recsys.bench.slot:measure", ranks=1),
    "delta": Row("recsys.bench.delta:measure", ranks=1),
    "serve-1": Row("recsys.bench.serve:measure_1", ranks=1),
    "serve-8": Row("recsys.bench.serve:measure_8", ranks=1),
    "serve-64": Row("recsys.bench.serve:measure_64", ranks=1),
    "serve-delta": Row("recsys.bench.serve:measure_delta", ranks=1),
    "prompt": Row("recsys.bench.prompt:measure", ranks=1),
    "generate": Row("proxy.bench:measure", ranks=1),
    "judge": Row("simulator.bench:measure", ranks=1),
    "judge-shared": Row("simulator.bench:measure_shared", ranks=1),
    "index": Row("simulator.bench_index:measure", ranks=1),
    "filter": Row("simulator.bench_filter:measure", ranks=1),
    "update": Row("simulator.bench_update:measure", ranks=1),
}
"""Every row by name; a row names its function, so that it may lie in any package."""


def main(argv: list[str] | None = None) -> None:
    """Parse, measure, print the table and where it is."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--only", action="append", choices=sorted(ROWS), help="measure this row alone (repeatable)")
    arguments = parser.parse_intermixed_args(argv)
    path = Path(_cli.config_of(arguments).run).parent / "bench.json"
    rows = {name: row for name, row in ROWS.items() if not arguments.only or name in arguments.only}
    table = Table("row", "ours", "bound", "unit", "ratio", "at least", "bound is")
    measured = bench(rows, arguments.config, arguments.overrides, path)
    for name, row in measured.items():
        numbers = [amount(row["ours"]), amount(row["bound"]), row["unit"]]
        table.add_row(name, *numbers, f"{row['ratio']:.3f}", f"{row['required']:.2f}", row["bound_is"])
    Console().print(table)
    print(f"bench: {path}")
    slow = [name for name, row in measured.items() if row["ratio"] < row["required"]]
    if slow:
        sys.exit(f"slower than required: {', '.join(slow)} (on a machine with nothing else to do?)")


if __name__ == "__main__":
    _cli.run(main)
