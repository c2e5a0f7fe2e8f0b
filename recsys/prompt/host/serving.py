"""A prompt network for serving: e_final of every item as a table of a bundle, brought up by deltas.

    <run>/prompt/host/<name>/final.npy    [N, E] float32, by the rows of the network's tables, as of the last export
    <run>/prompt/host/<name>/export/      the ranker's bundle with these as table `item_prompt`
    <run>/prompt/host/<name>/feedback/    what has been published: see `recsys.prompt.host.published`

e_final follows from an item, its pinnacle list and its own rows alone: a server adds one product to the logit and needs
neither lists nor generator. New feedback is new vectors of its items: a delta of the network's log, which holds their
own rows for its checkpoints and e_final for its bundle. Nothing is trained but these rows, and the base not at all.
Both follow from all that has been published, however it was dealt to files: an item's rows begin anew.

Legend: B batch, N rows of the network's tables, E width of the ranker's last hidden layer.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from recsys.coldrows.frozen import Frozen
from recsys.config import Config
from recsys.data.check import Place
from recsys.data.encode import ITEM
from recsys.data.feedback import NEVER
from recsys.data.ids import UNKNOWN, IdMap
from recsys.distributed import Ranks, of_first, on_first
from recsys.errors import InputError
from recsys.files import replacing
from recsys.floor import kept
from recsys.prompt.host import published
from recsys.prompt.host.asked import COLUMNS, Asked
from recsys.prompt.host.beside import Host
from recsys.prompt.host.network import Network, folder_of
from recsys.prompt.host.stage import begin, trained
from recsys.prompt.host.training import own_rows
from recsys.prompt.stage import new_items_of
from recsys.tables import admit, service
from recsys.tables.delta import ROWS, Delta
from recsys.tables.export import export
from recsys.tables.parts import Table
from recsys.tables.piece import Audience, Piece
from recsys.tables.probe import Prompted
from recsys.tables.rows import Rows

TABLE = "item_prompt"
FINAL, LIVE = "final.npy", "live.json"
SOURCE = "prompt"
_BATCH = 4096


class _Mapped:
    """Vectors [N, E] in a file: see `recsys.tables.parts.Vectors`."""

    def __init__(self, path: Path) -> None:
        self._values = np.load(path, mmap_mode="r")
        self.dim = int(self._values.shape[1])

    def check(self, rows: range) -> None:
        """Made just now."""

    def read(self, rows: range) -> Tensor:
        return torch.from_numpy(np.array(self._values[rows.start : rows.stop]))

    def take(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self._values[rows.numpy()])


@torch.no_grad()
def finals(network: Network, host: Host, rows: np.ndarray) -> Tensor:
    """[n, E] float32 on the CPU: e_final of the items that own `rows` [n] of the network's tables, by all their
    feedback. Collective: all ranks name the same rows."""
    network.sharded.model.eval()
    frozen, width = host.frozen, host.frozen.encoder.config.model.top[-1]
    found = [torch.zeros(0, width)]
    for some in np.split(rows, range(_BATCH, len(rows), _BATCH)) if len(rows) else ():
        ids = network.rows.owners(some)
        nobody, ever = np.full(len(some), -1, np.int32), np.full(len(some), NEVER)
        lists = host.lists(Asked(nobody, host.entities.item(ids), ever))
        item_row = frozen.encoder.maps[ITEM].rows(ids)
        item_row[frozen.place(item_row) >= 0] = UNKNOWN
        row_B = torch.from_numpy(some).to(frozen.ranks.device)
        zeros = torch.zeros(len(some), width, device=row_B.device)
        given = host.given(row_B, frozen.vectors(item_row).float(), zeros, zeros[:, 0], lists)
        found.append(network.model.final(given).cpu())
    return torch.cat(found)


def exported(config: Config, ranks: Ranks) -> Path:
    """Write the bundle of the run's ranker and the config's network, trained as far as it is not. Collective.

    Raises:
        InputError: as `recsys.prompt.host.stage.prompt` and `recsys.tables.export.export`.
    """
    _require_served(config)
    base = of_first(ranks, lambda: begin(config, 0))
    known = of_first(ranks, lambda: published.files(folder_of(config)))
    frozen = _frozen(config, of_first(ranks, lambda: _items(config, known)), ranks)
    network = trained(frozen, base)
    made = finals(network, Host.read(frozen, network.rows, 0, known), np.arange(len(network.rows.ids) + 1))
    path = network.folder / FINAL
    on_first(ranks, lambda: _save(path, made))
    dist.barrier()
    vectors = _Mapped(path)
    table = Table(TABLE, "", replace(network.rows, name=TABLE), vectors.dim)
    return export(config, ranks, prompted=Prompted(network.folder, network.version, table, vectors))


def _require_served(config: Config) -> None:
    if config.prompt.tuning.finetune:
        raise InputError(
            "prompt.tuning.finetune=true: the ranker that is served has no vectors fine-tuned for new items: expected "
            "false with --export and --feedback"
        )


def _save(path: Path, made: Tensor) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, made.numpy(), allow_pickle=False)


def answer(config: Config, source: Path, ranks: Ranks) -> Delta | None:
    """Bring the network's items up to the rows in `source`, a Parquet file with the columns of a split, and to all that
    was published before: a delta of their own rows, which learn from these rows, and of e_final by lists that hold
    them. Collective.

    None: the network has these rows already.

    Raises:
        InputError: the file is not as it should be, names an item that training rows have taught its vector, or more
            new items than the network's tables have rows for; or as `recsys.prompt.host.stage.prompt`.
    """
    _require_served(config)
    base = of_first(ranks, lambda: begin(config, 0))
    more = of_first(ranks, lambda: _with(folder_of(config), source))
    items = of_first(ranks, lambda: _items(config, more))
    frozen = _frozen(config, items, ranks)
    network = trained(frozen, base)
    key = of_first(ranks, lambda: _key(network, more, config.prompt.tuning.passes))
    if of_first(ranks, lambda: _read(network.folder / LIVE) == key):
        return None
    network, place = _admitted(network, items, source)
    host = Host.read(frozen, network.rows, 0, more)
    _learn(network, host, more, place)
    pieces = list(_pieces(network, host, place))
    brought: list[Delta | None] = [None]

    def bring_in() -> None:
        # Before they are published: what is in a delta is never missing here.
        published.keep(network.folder, source)
        brought[0] = service.publish(network.folder, lambda: pieces, stale=config.tables.max_staleness)
        with replacing(network.folder / LIVE) as partial:
            partial.write_text(json.dumps({"key": key}) + "\n")

    on_first(ranks, bring_in)
    return brought[0]


def _with(network: Path, source: Path) -> list[Path]:
    """The published files and one more, unless that is among them."""
    known = published.files(network)
    return known if published.place(network, source) in known else [*known, source]


def _items(config: Config, sources: Sequence[Path]) -> pa.Array | None:
    """[n] the items of the files, in order of their ids; None without files.

    Raises:
        InputError: as `recsys.prompt.stage.new_items_of`.
    """
    if not sources:
        return None
    items = pa.chunked_array([new_items_of(config, source) for source in sources]).unique()
    return items.take(pc.sort_indices(items))


def _frozen(config: Config, items: pa.Array | None, ranks: Ranks) -> Frozen:
    """The ranker, for the items that the split holds out and others. Collective."""
    every = kept.new_items(Path(config.data.path))
    every = every if items is None else pa.concat_arrays([every, items.cast(every.type)]).unique()
    return Frozen.load_locked(config, every, ranks)


def _key(network: Network, sources: Sequence[Path], passes: int) -> str:
    digests = sorted(published.place(network.folder, source).stem for source in sources)
    return hashlib.sha256(json.dumps([network.version.base, passes, digests]).encode()).hexdigest()


def _read(path: Path) -> str | None:
    return json.loads(path.read_text())["key"] if path.exists() else None


def _admitted(network: Network, items: pa.Array, source: Path) -> tuple[Network, np.ndarray]:
    """The network whose maps know the items, in memory alone, and the items' rows [n], ascending."""
    ids: dict[str, IdMap] = {}
    for name, known in network.ids.items():
        rows = admit.placed(network.folder, known, items, source)
        ids[name] = known.assign(rows, items)
    return replace(network, ids=ids), np.sort(rows)


def _learn(network: Network, host: Host, sources: Sequence[Path], place: np.ndarray) -> None:
    encoder, ranks = host.frozen.encoder, host.frozen.ranks
    table = published.rows(sources, [*encoder.columns(), *COLUMNS])
    begin_, end = (table.num_rows * k // ranks.world_size for k in (ranks.rank, ranks.rank + 1))
    asked = Asked.of([(Place(sources[-1], 0), table)], host.entities)
    strange = int((asked.user < 0).sum())
    if strange and ranks.is_first:
        said = f"{strange} of {len(asked.user)} rows of feedback are of users without a record in users.parquet"
        tqdm.write(f"{said}: no list holds them", file=sys.stderr)
    own_rows(network, host, encoder.encode(table.slice(begin_, end - begin_), begin_), asked, place)


def _pieces(network: Network, host: Host, place: np.ndarray) -> Iterator[Piece]:
    """Collective."""
    rows, named = Rows(network.sharded, host.frozen.ranks), torch.from_numpy(place)
    found: list[tuple[str, Tensor, Tensor, Audience]] = [
        (spec.name, *rows.read(spec.name, named), "training") for spec in network.specs
    ]
    found.append((TABLE, finals(network, host, place), torch.zeros(len(place)), "serving"))
    for name, vectors, state, audience in found:
        for some in torch.arange(len(place)).split(ROWS):
            ids = network.rows.owners(place[some.numpy()])
            yield Piece.of(name, named[some], ids, vectors[some], SOURCE, network.version, state[some], audience)
