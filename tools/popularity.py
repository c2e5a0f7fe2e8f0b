"""Write vectors whose dot products are the items' popularity, for `tools.evaluate --vectors` to compare with.

python -m tools.popularity configs/movielens-1m-cold-items.yaml
"""

from recsys.floor.popularity import popularity
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, count, say where the vectors are."""
    config = _cli.config_of(_cli.parser(__doc__).parse_intermixed_args(argv))
    print(f"vectors: {popularity(config)}")


if __name__ == "__main__":
    _cli.run(main)
