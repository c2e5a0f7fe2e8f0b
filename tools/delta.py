"""The deltas of a run: rows that were changed from outside of training, and who holds them.

python -m tools.delta configs/movielens-1m.yaml                             # list them
python -m tools.delta configs/movielens-1m.yaml --catch-up                  # bring checkpoints, id maps and bundle up
python -m tools.delta configs/movielens-1m.yaml --apply FOLDER              # rows from elsewhere, into all of these
python -m tools.delta configs/movielens-1m.yaml --apply FOLDER --to BUNDLE  # into one bundle or checkpoint, anywhere
python -m tools.delta configs/movielens-1m.yaml --diff BASE NOW --out FOLDER  # what training changed, by checkpoints
python -m tools.delta configs/movielens-1m.yaml --compact                   # make one delta of all
python -m tools.delta configs/movielens-1m.yaml --retire                    # drop what everything here holds
"""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from recsys import runs
from recsys.config import Config
from recsys.errors import InputError
from recsys.tables import delta, log, service
from recsys.tables.diff import diff
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, do the one thing asked for, say what was done."""
    parser = _cli.parser(__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--catch-up", action="store_true", help="bring checkpoints, id maps and bundle up to the log")
    what.add_argument("--apply", nargs="+", type=Path, metavar="FOLDER", help="take these deltas, in this order")
    what.add_argument("--diff", nargs=2, type=Path, metavar=("BASE", "NOW"), help="two checkpoints of the run")
    what.add_argument("--compact", action="store_true", help="make one delta of all in the log")
    gone = "remove deltas that everything here holds from the log; a bundle elsewhere that lacks one stays behind"
    what.add_argument("--retire", action="store_true", help=gone)
    alone = "with --apply: change this bundle, or this checkpoint (which is renamed), and not the run"
    parser.add_argument("--to", type=Path, help=alone)
    parser.add_argument("--out", type=Path, help="with --diff: the folder to write the difference to")
    forced = "with --apply: take rows although they were made for another training run"
    parser.add_argument("--force", action="store_true", help=forced)
    arguments = parser.parse_intermixed_args(argv)
    if bool(arguments.diff) != bool(arguments.out) or ((arguments.to or arguments.force) and not arguments.apply):
        raise InputError("--out goes with --diff, --to and --force go with --apply")
    config = _cli.config_of(arguments, remote=True)
    runs.require(config)
    run, stale = Path(config.run), config.tables.max_staleness
    if arguments.apply and arguments.to:
        deltas = [delta.read(path) for path in arguments.apply]
        target, version = service.apply_to(arguments.to, deltas, arguments.force, stale)
        print(f"{target}: deltas up to {version.delta}, step {version.step}")
    elif arguments.apply:
        for path in arguments.apply:
            taken = service.take(run, delta.read(path), arguments.force, stale)
            print(f"delta: {taken.folder}" if taken else f"{path}: its rows have come into the log before")
    elif arguments.diff:
        base, now = arguments.diff
        made = diff(run, base, now, arguments.out)
        print(f"delta: {made.folder}, {made.rows} rows")
    elif arguments.compact:
        compacted = service.compact(run)
        print(f"delta: {compacted.folder}" if compacted else "nothing to compact")
    elif arguments.retire:
        print(f"retired {service.retire(run)} deltas")
    else:
        if arguments.catch_up:
            service.catch_up(run, stale)
        _show(config)


def _show(config: Config) -> None:
    run = Path(config.run)
    table = Table("deltas", "rows", "made for")
    for each in log.every(run):
        rows = ", ".join(f"{name} {stored.rows}" for name, stored in each.tables.items())
        table.add_row(f"{each.first} to {each.last}", rows, ", ".join(base.base for base in each.bases))
    Console().print(table)
    for path, number in service.holders(run).items():
        print(f"{path}: up to {number}")


if __name__ == "__main__":
    _cli.run(main)
