r"""Search hyper-parameters by Optuna; run it again to go on where it was interrupted, or with more trials.

    python -m tools.search configs/movielens-1m.yaml configs/search/ranker.yaml --trials 20
    torchrun --nproc-per-node 2 -m tools.search configs/movielens-1m.yaml configs/search/ranker.yaml search.metric=gauc
    torchrun --nproc-per-node 2 -m tools.train configs/movielens-1m.yaml runs/movielens-1m/search/best.yaml \
        run=runs/best

The second file says what may be chosen, by key of the config:

    search:
      space:
        train.lr: {low: 0.001, high: 0.02, log: true}
        model.dim: [16, 32]

The first trial is the config as it stands. Each trains the ranker as tools.train does, in a run folder of its own that
goes when it is over (search.keep=true keeps it), and is judged on split=valid; no test row is looked at. With
search.system=means, finetune or ridge it is a system of tools.floor instead, searched by keys of `floor` and judged on
new items that are made of training rows.
"""

from recsys import settings
from recsys.distributed import process_group
from recsys.search.search import search
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, search, print the trials and where the best one's values are."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--trials", type=int, help="as search.trials: trials in all, those done before included")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments)
    if arguments.trials is not None:
        config = settings.with_values(config, {"search.trials": arguments.trials}, "--trials")
    with process_group() as ranks:
        folder = search(config, ranks)
        if ranks.is_first:
            print((folder / "table.md").read_text())
            print(f"best: {folder / 'best.yaml'}")


if __name__ == "__main__":
    _cli.run(main)
