"""Teach an encoder of item content the ranker's ID space, and write every item's vectors (IDProxy, stage 1).

The ranker of the config must be trained. What the encoder has learned is judged on left-out warm items, whose own IDs
it must find among all, beside frozen content, a regression and a ridge; then coarse proxies and layer states of all
items are written, which `model.proxy.coarse` and `model.proxy.layers` of a second run read (stage 2), and the rivals'
vectors, which can stand in place of the coarse proxies (`<run>/proxy/rivals`).

torchrun --nproc-per-node 2 -m tools.align configs/movielens-1m.yaml
python -m tools.align configs/movielens-1m.yaml proxy.encoder.train=frozen proxy.encoder.batch_size=512

Of either run, pictures of the ID space and of the proxies in it, and their lengths and cosines as numbers:

python -m tools.align look CONFIG

For the second run, once it is trained, new items: encoded, and their proxies brought into checkpoints, id maps and
bundle by a delta. What is there already is left out, an item without content is only counted. After a retrain `refresh`
does it for all that were ever generated, without encoding them again.

python -m tools.align generate CONFIG --items new.parquet    # item_id, and the columns that the encoder reads
python -m tools.align refresh CONFIG
"""

import sys
from pathlib import Path

from proxy import generate, rivals, vectors
from proxy.align import align
from proxy.compare import compare, table
from proxy.issue import Issued
from recsys.config import Config
from recsys.distributed import Ranks, on_first, process_group
from recsys.evaluate.report import wide
from recsys.floor.content import content_file
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, do what the leading word says, tell what came of it."""
    argv = sys.argv[1:] if argv is None else argv
    word = argv[0] if argv and argv[0] in ("look", "generate", "refresh") else ""
    parser = _cli.parser(__doc__)
    if word:
        parser.prog += f" {word}"
    if word == "generate":
        parser.add_argument("--items", type=Path, required=True, metavar="PARQUET", help="the new items")
    arguments = parser.parse_intermixed_args(argv[1:] if word else argv)
    config = _cli.config_of(arguments)
    if word == "look":
        _look(config)
        return
    with process_group() as ranks:
        if word == "generate":
            on_first(ranks, lambda: _generate(config, arguments.items, ranks))
        elif word == "refresh":
            on_first(ranks, lambda: _told(generate.refresh(config)))
        else:
            _align(config, ranks)


def _align(config: Config, ranks: Ranks) -> None:
    on_first(ranks, lambda: vectors.require_replaceable(config))
    align(config, ranks)
    told = compare(config, ranks)
    content = content_file(config, ranks)
    if ranks.is_first:
        # The others have nothing left to wait for.
        rivals.write(config, content)
        vectors.write(config, ranks)
        wide().print(table(told))
        print(f"item vectors: {vectors.folder_of(config)}")


def _look(config: Config) -> None:
    from proxy import look  # slow to import, and all else draws nothing

    print("drawing: up to half a minute", flush=True)
    wide().print(look.table(look.look(config)))
    print(f"pictures: {look.folder_of(config)}")


def _generate(config: Config, items: Path, ranks: Ranks) -> None:
    found = generate.generate(config, items, ranks.device)
    print(f"{found.items} items: {found.encoded} encoded, {found.empty} without content")
    _told(found.issued)


def _told(issued: Issued) -> None:
    where = f": {issued.delta.folder}" if issued.delta else ""
    print(f"proxies of {issued.items - issued.held} items issued, {issued.held} were there{where}")


if __name__ == "__main__":
    _cli.run(main)
