r"""Read a new item's vector off its first feedback: what its first users have in common, and how they liked it.

    torchrun --nproc-per-node 2 -m tools.prompt configs/movielens-1m.yaml --exposure 8
    python -m tools.evaluate configs/movielens-1m.yaml --exposure 8 --only n=8 \
        --scores base=runs/movielens-1m/scores/test --scores promo=runs/movielens-1m/prompt/summary/n=8/scores.parquet

The first call learns from the warm items what n rows tell (`prompt.summary`); no gradient step is taken, unless
prompt.summary.finetune=true. The run must be trained, and its test rows scored by tools.predict.

    python -m tools.prompt configs/movielens-1m.yaml --feedback new.parquet

gives the items of a file of feedback (Parquet with the columns of a split) their vectors by a delta: checkpoints, id
maps and the bundle follow without retraining. Call it again when there is more; nothing changes where nothing did.

PROMO's own network, in the protocol of its paper, is trained beside a DSSM or SASRec that stays as it is. It is scored
beside the base, and beside the base trained on for as long (see recsys/prompt/protocol.py):

    python -m tools.backbone configs/movielens-100k-leave-one-out.yaml configs/backbone/sasrec.yaml
    python -m tools.prompt configs/movielens-100k-leave-one-out.yaml configs/backbone/sasrec.yaml --network
    python -m tools.prompt configs/movielens-100k-leave-one-out.yaml configs/backbone/sasrec.yaml --finetune
    python -m tools.evaluate configs/movielens-100k-leave-one-out.yaml evaluate.draws=5 \
        --vectors base=runs/movielens-100k-leave-one-out/backbone/sasrec/vectors \
        --vectors finetuned=runs/movielens-100k-leave-one-out/prompt/sasrec/finetuned/vectors \
        --vectors promo=runs/movielens-100k-leave-one-out/prompt/sasrec/code/scores

Beside the ranker itself the network is trained on the warm items' rows, and scores the test rows of the new ones after
n of their own; the ranker stays as it is:

    torchrun --nproc-per-node 2 -m tools.prompt configs/movielens-1m.yaml configs/promo/code.yaml --network --exposure 8

--network --export writes the ranker and its network as a bundle; --network --feedback new.parquet brings the bundle and
the network's checkpoints up to the rows in the file by a delta, without retraining.

The variants of the paper's tables 3 and 4 are files in configs/promo that are laid over these, such as
configs/promo/rows.yaml. --retention writes a table of the pinnacle feedback that the base, the base as it learns on and
PROMO still rank right as negative feedback comes in (see recsys/prompt/retention.py). One process; the same settings
resume.
"""

import argparse
from pathlib import Path

from recsys.coldrows.learned import Learned
from recsys.config import Config
from recsys.distributed import Ranks, process_group
from recsys.prompt import protocol, retention, stage
from recsys.prompt.host import serving
from recsys.prompt.host import stage as host
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, do what is asked for, say where the result is."""
    parser = _cli.parser(__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--exposure", type=int, help="score the test rows after so many kept rows of each new item")
    source.add_argument("--feedback", metavar="FILE", type=Path, help="publish the rows of the items in this file")
    parser.add_argument(
        "--network",
        action="store_true",
        help="train PROMO's network beside a trained backbone; with --exposure beside the ranker",
    )
    source.add_argument("--export", action="store_true", help="with --network: the ranker with its network as a bundle")
    source.add_argument("--finetune", action="store_true", help="train the backbone itself on for as long")
    source.add_argument("--retention", action="store_true", help="measure which pinnacle feedback is forgotten")
    arguments = parser.parse_intermixed_args(argv)
    asked = arguments.exposure is not None or arguments.feedback or arguments.export
    if arguments.export and not arguments.network:
        parser.error("--export goes with --network; tools.export writes the ranker alone")
    if not (asked or arguments.network or arguments.finetune or arguments.retention):
        parser.error("one of --exposure, --feedback, --network, --finetune and --retention is required")
    config = _cli.config_of(arguments)
    with process_group() as ranks:
        if asked:
            (_beside_ranker if arguments.network else _read)(arguments, config, ranks)
        elif arguments.finetune:
            print(f"vectors: {protocol.finetuned(config, ranks) / protocol.VECTORS}")
        elif arguments.retention:
            print(f"retention: {retention.measure(config, ranks)}")
        else:
            print(f"scores: {protocol.network(config, ranks) / protocol.SCORES}")


def _beside_ranker(arguments: argparse.Namespace, config: Config, ranks: Ranks) -> None:
    if arguments.feedback:
        delta = serving.answer(config, arguments.feedback, ranks)
        said = f"delta: {delta.folder}" if delta else "no row of the network's tables has changed"
    elif arguments.export:
        said = f"bundle: {serving.exported(config, ranks)}"
    else:
        said = f"scores: {host.prompt(config, arguments.exposure, ranks)}"
    if ranks.is_first:
        print(said)


def _read(arguments: argparse.Namespace, config: Config, ranks: Ranks) -> None:
    if arguments.feedback:
        folder, delta = stage.answer(config, arguments.feedback, ranks)
        said = f"delta: {delta.folder}" if delta else "no row of the tables has changed"
    else:
        folder = stage.prompt(config, arguments.exposure, ranks)
        said = f"scores: {folder / stage.SCORES}"
    if ranks.is_first and (rows := Learned.read(folder)):
        print(f"rows: {folder} ({rows.about.found['items']:,} items with feedback)\n{said}")


if __name__ == "__main__":
    _cli.run(main)
