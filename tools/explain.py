"""What became of an item: its content, row, proxies, simulated users, feedback, deltas, and scores stage by stage.

python -m tools.explain configs/movielens-1m.yaml "Toy Story (1995)"
python -m tools.explain runs/demo/config.yaml "Toy Story (1995)"

Reads what the config's dataset and run folder hold, and changes nothing. Behind the item come files that are laid over
the config, and keys.
"""

from recsys.explain.history import history
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, tell the item's history."""
    arguments = _cli.parser(__doc__, item="the item's id").parse_intermixed_args(argv)
    for chapter in history(_cli.config_of(arguments), arguments.item):
        print(chapter.title)
        for line in chapter.lines:
            print(f"  {line}")


if __name__ == "__main__":
    _cli.run(main)
