"""Compare the base with simpler systems on the same features, each given the same search budget.

    python -m tools.rivals configs/movielens-1m.yaml --budget 8 --seeds 0 1 2
    python -m tools.rivals configs/movielens-1m.yaml --budget 2 --seeds 0 --rivals means trees

Rivals: smoothed user and item means, logistic regression, DeepFM, gradient-boosted trees. Hyper-parameters are chosen
on the cut made once more inside the training rows, and reused on every draw; a seed redraws the held-out items and the
weights.
Everything goes to <run>/rivals; run it again to go on where it was interrupted.
"""

from pathlib import Path

from recsys.rivals.compare import RIVALS, compare
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, compare, print the table and where it is."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--budget", type=int, default=8, help="configurations tried for each system (default 8)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="draws of the held-out items (default 0)")
    parser.add_argument("--ranks", type=int, default=2, help="processes that the base trains on (default 2)")
    parser.add_argument("--rivals", nargs="+", default=list(RIVALS), choices=RIVALS, help="default: all")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments)
    compare(config, arguments.budget, arguments.seeds, arguments.ranks, tuple(arguments.rivals))
    folder = Path(config.run) / "rivals"
    print((folder / "table.md").read_text())
    print(f"results: {folder / 'results.json'}")


if __name__ == "__main__":
    _cli.run(main)
