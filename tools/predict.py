"""Score a split with the run's best checkpoint; writes (row_id, score) as Parquet.

torchrun --nproc-per-node 2 -m tools.predict configs/movielens-1m.yaml
torchrun --nproc-per-node 2 -m tools.predict configs/movielens-1m.yaml --split valid
"""

from recsys.distributed import process_group
from recsys.predict import predict
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, score, say where the scores are."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--split", default="test", choices=["train", "valid", "test", "feedback"])
    arguments = parser.parse_intermixed_args(argv)
    with process_group() as ranks:
        folder = predict(_cli.config_of(arguments, remote=True), arguments.split, ranks)
        if ranks.is_first:
            print(f"scores: {folder}")


if __name__ == "__main__":
    _cli.run(main)
