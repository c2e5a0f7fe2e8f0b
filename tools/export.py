"""Export the tables of a run's best checkpoint for serving: Parquet, safetensors and a manifest of checksums.

torchrun --nproc-per-node 2 -m tools.export configs/movielens-1m.yaml
python -m tools.export configs/movielens-1m.yaml
python -m tools.export configs/movielens-1m.yaml --verify     # check an export that is there
"""

from pathlib import Path

from recsys import runs
from recsys.distributed import process_group
from recsys.tables.export import export
from recsys.tables.manifest import verify
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, export or verify, say where the result is."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--verify", action="store_true", help="only check the run's export against its manifest")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments)
    if arguments.verify:
        files = verify(Path(config.run) / "export")["files"]
        print(f"{Path(config.run) / 'export'}: {len(files)} files as written")
        return
    runs.require(config)
    with process_group() as ranks:
        folder = export(config, ranks)
        if ranks.is_first:
            print(f"tables: {folder}")


if __name__ == "__main__":
    _cli.run(main)
