"""Give new items rows of the item table, and register them everywhere: id map, checkpoints, exported bundle.

ITEMS is a Parquet file or folder with item_id and, where there are, categories (lists of strings). A new item starts
as an unknown one, or where training hid no ids from the mean of the warm items of its categories (tables.start). Items
that have a row already keep it. Evicted items give their row back and score as unknown; a row is given to another item
only once no delta of the run's log names it (tools.delta --retire).

python -m tools.admit configs/movielens-1m.yaml --items ITEMS
python -m tools.admit configs/movielens-1m.yaml --evict ITEMS
"""

from pathlib import Path

from recsys import runs
from recsys.tables.admit import admit, evict
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, admit or evict, say what was done."""
    parser = _cli.parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--items", type=Path, metavar="ITEMS", help="new items: Parquet with item_id, categories")
    what.add_argument("--evict", type=Path, metavar="ITEMS", help="items that are gone: Parquet with item_id")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments, remote=True)
    runs.require(config)
    if arguments.items:
        found = admit(config, arguments.items)
        print(f"admitted {found.new} items, {found.known} had a row{_where(found.delta)}")
    else:
        delta = evict(config, arguments.evict)
        print(f"evicted {delta.rows if delta else 0} items{_where(delta)}")


def _where(delta: object) -> str:
    return f": {getattr(delta, 'folder', '')}" if delta else ""


if __name__ == "__main__":
    _cli.run(main)
