r"""Train MF, NGCF, LightGCN, DSSM or SASRec on a dataset's training positives; writes vectors for
`tools.evaluate --vectors`.

    python -m tools.backbone configs/movielens-1m-cold-items.yaml backbone.kind=lightgcn
    python -m tools.evaluate configs/movielens-1m-cold-items.yaml \
        --vectors lightgcn=runs/movielens-1m-cold-items/backbone/lightgcn/vectors

DSSM and SASRec know a user by what they took before the row that is tested:

    python -m tools.backbone configs/movielens-100k-leave-one-out.yaml configs/backbone/sasrec.yaml

One process; the same settings on the same dataset resume. With --ridge it writes a copy beside them, in which the
vectors of cold items are predicted from content (floor.content=FILE for vectors of your own). With --simulated FILE, as
tools.simulate writes it, it writes one in which they follow from simulated interactions (`simulator.backbone`), too:

    python -m tools.backbone configs/movielens-1m-cold-items.yaml backbone.kind=lightgcn --mode propagate \
        --simulated runs/movielens-1m-cold-items/simulator/simulated/simulated.parquet

--mode says how: the cold items' vectors alone are optimised (frozen), or made by one propagation from their qualified
users (propagate, not for mf); neither moves any other vector. joint trains on, with their interactions among the real.
"""

from pathlib import Path

from recsys.backbones.ridge import ridge
from recsys.backbones.train import train
from recsys.distributed import process_group
from recsys.floor.content import content_file
from simulator import backbone_update
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, train, say where the vectors are."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--ridge", action="store_true", help="predict the cold items' vectors from content, too")
    parser.add_argument("--simulated", metavar="FILE", type=Path, help="simulated interactions of the cold items")
    parser.add_argument("--mode", choices=backbone_update.MODES, default="frozen", help="what is made of those")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments)
    with process_group() as ranks:
        print(f"vectors: {train(config, ranks)}")
        if arguments.ridge:
            print(f"ridge: {ridge(config, content_file(config, ranks))}")
        if arguments.simulated:
            made = backbone_update.update(config, arguments.simulated, arguments.mode, ranks)
            print(f"{arguments.mode}: {made}")


if __name__ == "__main__":
    _cli.run(main)
