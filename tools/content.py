"""Encode the items' titles, categories and texts by a sentence encoder; writes (item_id, vector) as Parquet.

python -m tools.content configs/movielens-1m.yaml --out runs/content.parquet

The encoder is MiniLM, whose weights come with this project's packages. `floor.content=FILE` makes use of the file.
"""

from pathlib import Path

from recsys.content import vectors
from recsys.content.encoder import minilm
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, encode, say where the vectors are."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments)
    print(f"vectors: {vectors.write(Path(config.data.path), minilm('cpu'), arguments.out)}")


if __name__ == "__main__":
    _cli.run(main)
