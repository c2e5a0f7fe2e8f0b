"""Export a run's best checkpoint for serving: tables, id maps and the dense part, in one folder that scores by itself.

It is proved before it is there: loaded by torch and pyarrow alone, it must score rows with unknown ids, empty and full
histories and missing features as the trained model does. `recsys.tables.bundle` shows how to score from it.

torchrun --nproc-per-node 2 -m tools.export configs/movielens-1m.yaml
python -m tools.export configs/movielens-1m.yaml
python -m tools.export configs/movielens-1m.yaml --int8       # 8-bit tables, refused where they change the valid AUC
python -m tools.export configs/movielens-1m.yaml --verify     # check an export that is there
python -m tools.export configs/movielens-1m.yaml --to s3://bucket/bundles/new         # and copy it there, manifest last
python -m tools.export configs/movielens-1m.yaml --fetch s3://bucket/bundles/new      # bring one from there
"""

from pathlib import Path

from recsys import runs
from recsys.distributed import on_first, process_group
from recsys.tables.bundle import Bundle
from recsys.tables.export import export
from recsys.tables.transfer import download, upload
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, export or verify, say where the result is."""
    parser = _cli.parser(__doc__)
    parser.add_argument("--verify", action="store_true", help="only check the export: every byte, and the probe rows")
    parser.add_argument("--int8", action="store_true", help="8-bit tables with a scale and an offset a row")
    parser.add_argument("--to", metavar="URI", help="copy the bundle into object storage, too")
    parser.add_argument("--fetch", metavar="URI", help="only bring a bundle from there to <run>/export, and check it")
    arguments = parser.parse_intermixed_args(argv)
    config = _cli.config_of(arguments, remote=True)
    if arguments.fetch:
        print(f"bundle: {download(arguments.fetch, Path(config.run) / 'export')}")
        return
    if arguments.verify:
        bundle = Bundle.load(Path(config.run) / "export", mapped=True)
        worst = bundle.check()
        print(f"{bundle.folder}: {len(bundle.told['files'])} files as written; probe rows within {worst:.1g}")
        return
    with process_group() as ranks:
        on_first(ranks, lambda: runs.bring_up(config, bundle=False))
        folder = export(config, ranks, arguments.int8)
        if ranks.is_first:
            print(f"bundle: {folder}")
        if arguments.to:
            on_first(ranks, lambda: print(f"bundle: {upload(folder, arguments.to)}"))


if __name__ == "__main__":
    _cli.run(main)
