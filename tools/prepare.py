"""Make the dataset directory that a config names, from a public data set or from your own files.

    python -m tools.prepare configs/movielens-1m.yaml
    python -m tools.prepare configs/kuairand-pure.yaml data.source.path=/data/kuairand-pure

Running it again with the same config and source does nothing.
"""

from recsys.data.prepare import prepare
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Prepare the dataset of the config and say what it holds."""
    config = _cli.config_of(_cli.parser(__doc__).parse_intermixed_args(argv), remote=True)
    info, made = prepare(config.data)
    rows = ", ".join(f"{split} {count:,}" for split, count in info.counts.items())
    print(f"{info.name}, split {info.rule}, seed {info.seed}: {info.users:,} users, {info.items:,} items; rows: {rows}")
    for note in info.notes:
        print(f"  {note}")
    print(f"dataset: {config.data.path}" + ("" if made else " (already made from this config and source)"))


if __name__ == "__main__":
    _cli.run(main)
