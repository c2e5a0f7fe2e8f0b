"""Train the ranker; resumes where an interrupted run stopped.

torchrun --nproc-per-node 2 -m tools.train configs/movielens-1m.yaml
torchrun --nproc-per-node 2 -m tools.train configs/movielens-1m.yaml train.lr=0.001 run=runs/slow
torchrun --nproc-per-node 2 -m tools.train configs/movielens-1m.yaml --plan
"""

from pathlib import Path

from recsys import runs
from recsys.distributed import process_group
from recsys.tables import memory
from recsys.train import train
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, train, say where the result is."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--plan", action="store_true", help="print which rank would hold what, and its memory; no run")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments, remote=True)
    if arguments.plan and (Path(config.run) / "config.yaml").exists():
        runs.require(config)  # else the plan would be of another model than a resumed run's
    with process_group() as ranks:
        if arguments.plan:
            memory.show(config, ranks)
            return
        progress = train(config, ranks)
        if ranks.is_first:
            print(f"{config.run}: {progress.step} steps, best validation AUC {progress.best_auc:.4f}")


if __name__ == "__main__":
    _cli.run(main)
