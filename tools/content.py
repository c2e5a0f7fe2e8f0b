"""Encode the items' titles, categories and texts by a sentence encoder; writes (item_id, vector) as Parquet.

python -m tools.content configs/movielens-1m.yaml --out runs/content.parquet

The encoder is MiniLM, whose weights come with this project's packages. With --features the vectors hold the item
features of the config, too. `floor.content=FILE` and `simulator.filter.content=FILE` make use of the file.
"""

from pathlib import Path

from recsys.content import features, vectors
from recsys.content.encoder import minilm
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, encode, say where the vectors are."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    parser.add_argument("--features", action="store_true", help="put the items' features beside their texts")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments)
    dataset = Path(config.data.path)
    made = vectors.write(dataset, minilm("cpu"), arguments.out)
    if arguments.features:
        made = features.join(dataset, made, config.features, arguments.out)
    print(f"vectors: {made}")


if __name__ == "__main__":
    _cli.run(main)
