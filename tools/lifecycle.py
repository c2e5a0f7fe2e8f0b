r"""Fill the rows of new items by the lifecycle's policy, and score the test rows by them.

    torchrun --nproc-per-node 2 -m tools.lifecycle configs/movielens-1m.yaml --exposure 8
    torchrun --nproc-per-node 2 -m tools.lifecycle configs/movielens-1m.yaml --replay
    python -m tools.evaluate configs/movielens-1m.yaml --by impressions \
        --scores base=runs/movielens-1m/scores/test --scores road=runs/movielens-1m/lifecycle/road/replay/scores.parquet

The policy (`lifecycle.stages`) names a source for each number of rows of feedback; between two an item's row is a
blend. With --exposure every new item has so many rows; with --replay the test rows are walked in time order, and each
is scored by what had been seen of its item before it. The run must be trained, and its test rows scored by
tools.predict.
"""

from recsys.distributed import process_group
from recsys.lifecycle import stage
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, make rows, score, say where it is."""
    parser = _cli.parser(__doc__)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--exposure", type=int, help="after so many kept rows of each new item")
    how.add_argument("--replay", action="store_true", help="each test row by what had been seen of its item before it")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments)
    with process_group() as ranks:
        folder = (
            stage.replay(config, ranks) if arguments.replay else stage.at_exposure(config, arguments.exposure, ranks)
        )
        if ranks.is_first:
            print(f"scores: {folder / stage.SCORES}")


if __name__ == "__main__":
    _cli.run(main)
