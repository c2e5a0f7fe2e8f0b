"""Measure the tables of record and write them into the pages between their markers.

    python -m tools.records                                      # or: make records
    python -m tools.records --only floor-movielens --content movies.parquet
    python -m tools.records --only bench --again
    python -m tools.records --only bench --list

Commands that are done are not run again (--again removes the runs and begins anew); interrupted ones resume. A table
whose data is not given (--kuairand, --content) is left as it stands, or made without it.
"""

import argparse
from pathlib import Path

from recsys.records import pages
from recsys.records.steps import Steps
from recsys.records.tables import FOLDER, RECORDS, Paths
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [record.name for record in RECORDS]
    parser.add_argument("--only", action="append", choices=names, help="this table alone (repeatable)")
    parser.add_argument("--again", action="store_true", help="remove what the commands made, and run them all")
    parser.add_argument("--list", action="store_true", help="print the commands, and run none")
    parser.add_argument("--kuairand", metavar="FOLDER", help="KuaiRand-Pure")
    parser.add_argument("--content", metavar="FILE", help="Parquet with the movies' title and overview")
    parser.add_argument(
        "--into", type=Path, default=Path(), metavar="FOLDER", help="folder whose pages are written (default: this one)"
    )
    arguments = parser.parse_args(argv)
    paths = Paths(arguments.kuairand, arguments.content)
    steps = Steps(FOLDER)
    wanted = [record for record in RECORDS if record.name in (arguments.only or names)]
    for record in wanted:
        pages.require(arguments.into / record.page, record.name)
    for record in wanted:
        commands = record.commands(paths)
        if commands is None:
            print(f"{record.name}: left as it stands: its data is not given (see --help)")
            continue
        if arguments.list:
            print(f"# {record.name}", *commands, sep="\n")
            continue
        seconds = steps.run(record.name, commands, arguments.again)
        pages.put(arguments.into / record.page, record.name, record.block(paths))
        print(f"{record.name}: {seconds:.0f} s, written to {arguments.into / record.page}")


if __name__ == "__main__":
    _cli.run(main)
