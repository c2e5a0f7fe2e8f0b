r"""Score the test rows by a simple system for new items, for `tools.evaluate` to compare with.

    python -m tools.floor configs/movielens-1m.yaml --system means --exposure 8
    torchrun --nproc-per-node 2 -m tools.floor configs/movielens-1m.yaml --system finetune --exposure 8
    python -m tools.floor configs/movielens-1m.yaml --system ridge --exposure 0

    python -m tools.evaluate configs/movielens-1m.yaml --exposure 8 --only n=8 \
        --scores base=runs/movielens-1m/scores/test --scores finetune=runs/movielens-1m/floor/finetune/n=8

Systems: smoothed user and item means; the frozen base with ID rows of the new items fine-tuned on their kept rows to
convergence; the same, started by ridge from content vectors (floor.content=FILE for vectors of your own). The run must
be trained, and its test rows scored by tools.predict.
"""

from recsys.distributed import process_group
from recsys.floor import about
from recsys.floor.systems import SYSTEMS, floor
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, score, say with how many gradient steps and where the scores are."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--system", required=True, choices=SYSTEMS)
    parser.add_argument("--name", help="of the results' folder (default: the system's)")
    parser.add_argument("--exposure", type=int, default=0, help="kept rows of each new item to learn from (default 0)")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments, remote=True)
    with process_group() as ranks:
        folder = floor(config, arguments.system, arguments.exposure, ranks, arguments.name)
        if ranks.is_first:
            print(f"{about.read(folder).row_name()}: {folder}")


if __name__ == "__main__":
    _cli.run(main)
