"""Judge predictions (AUC, GAUC, log loss, NE, calibration) or rankings (Recall, NDCG, HitRate) by segment.

Every metric has a 95 % interval.

    python -m tools.evaluate configs/movielens-1m.yaml
    python -m tools.evaluate configs/movielens-1m.yaml --scores base=runs/movielens-1m/scores/test --scores mine.parquet
    python -m tools.evaluate configs/movielens-1m-cold-items.yaml --vectors base=DIR/export/parquet

Without --scores it judges <run>/scores/<split> as `base`. A scores file is anybody's: Parquet with row_id (a row's
position in the split) and score (a probability), one line for every row. With --vectors it ranks all items for each
user by dot products of vectors such as tools.export writes (see recsys/evaluate/vectors.py), or by a system's scores of
all pairs (recsys/evaluate/matrix.py); evaluate.draws=5 draws the sampled negatives five times and gives means. Both
kinds of results of a system stand together in results.json.
"""

from pathlib import Path

from recsys.evaluate import pointwise, ranking, report, results, systems
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, judge, print the tables and merge them into results.json."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--scores", action="append", default=[], metavar="[NAME=]PATH", help="a system's predictions")
    parser.add_argument("--vectors", action="append", default=[], metavar="[NAME=]DIR", help="a system's vectors")
    parser.add_argument("--against", metavar="NAME", help="print paired differences to this system (default: base)")
    parser.add_argument("--split", default="test", help="train, valid or test")
    parser.add_argument(
        "--exposure",
        type=int,
        default=0,
        help="kept rows of each new item that the systems could consume (base scores never do)",
    )
    parser.add_argument("--only", action="append", metavar="SEGMENT", help="judge this segment alone, such as n=8")
    parser.add_argument(
        "--by",
        choices=("training", "impressions"),
        default="training",
        help="segments: training rows of the item, or its test rows that came before (of a replay)",
    )
    parser.add_argument("--out", type=Path, help="default: <run>/results.json")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments, remote=True)
    if arguments.vectors and (arguments.scores or arguments.exposure or arguments.only):
        parser.error("--vectors goes without --scores, --exposure and --only; judge each in a call of its own")
    if arguments.vectors:
        found = ranking.evaluate(config, systems.named(arguments.vectors), arguments.split, arguments.against)
    else:
        scores = systems.named(arguments.scores) or None
        judged = (arguments.split, arguments.against, arguments.exposure, arguments.only, arguments.by)
        found = pointwise.evaluate(config, scores, *judged)
    report.show(found)
    out = arguments.out or Path(config.run) / "results.json"
    results.save(found, out)
    results.log(found, Path(config.run) / "logs" / "evaluate", arguments.exposure)
    print(f"results: {out}")


if __name__ == "__main__":
    _cli.run(main)
