"""What a bundle holds in place of what only training needs: `item_fine`, the fine proxy of every item with content.

    p_fine = W_c p_coarse + sigmoid(W_g [p_coarse, p_raw]) * p_raw,  p_raw = adaptor(layers)

The adaptor is done with an item once its proxy is written, so the layers, many times as wide, stay behind. A proxy lies
in the row that its item has in `item_coarse`; row 0 is that of an item without content.

Legend: n rows of a part, D embedding width.
"""

from pathlib import Path

import torch
from torch import Tensor

from recsys.config import Config
from recsys.data.content import COARSE, FINE, LAYERS
from recsys.data.ids import IdMap
from recsys.model.proxies import Proxies
from recsys.tables import checkpoint
from recsys.tables.parts import Table, Vectors
from recsys.tables.stored import StoredTensor

_PREFIX = "ranker.dense_arch.proxies."
_ROWS = 4096
"""Rows that go through the adaptor at a time."""


class Fine:
    """`item_fine` of a checkpoint, a few thousand rows at a time.

    Raises:
        InputError: the checkpoint is of another model.
    """

    def __init__(self, config: Config, source: Path, coarse: Table, layers: Table) -> None:
        self.dim = config.model.dim
        self._ids: tuple[IdMap, IdMap] = coarse.ids, layers.ids
        self._coarse, self._layers = StoredTensor(source, coarse.tensor), StoredTensor(source, layers.tensor)
        self._proxies = proxies(config, source, [coarse.dim, layers.dim])

    def check(self, rows: range) -> None:
        """Verify what the rows are made of.

        Raises:
            InputError: bytes that are not those that were saved, with their file.
        """
        self._coarse.check(rows)
        self._layers.check(range(self._layers.rows))

    def read(self, rows: range) -> Tensor:
        """[n, D] float32 consecutive rows."""
        return self.take(torch.arange(rows.start, rows.stop))

    def take(self, rows: Tensor) -> Tensor:
        """[n, D] float32 the rows named ([n] int64)."""
        coarse_ids, layer_ids = self._ids
        parts = [torch.zeros(0, self.dim)]
        with torch.inference_mode():
            for some in rows.split(_ROWS):
                layers = torch.from_numpy(layer_ids.rows(coarse_ids.owners(some.numpy())))
                vectors = self._coarse.take(some).float(), self._layers.take(layers).float()
                parts.append(self._proxies.fine(*vectors))
        return torch.cat(parts)


def proxies(config: Config, source: Path, widths: list[int]) -> Proxies:
    """What makes proxies of content vectors of these widths, as the checkpoint `source` has it.

    Raises:
        InputError: the checkpoint is of another model.
    """
    made = Proxies(widths, config.model.dim, config.model.proxy.adaptor).eval()
    state = checkpoint.read(source, [_PREFIX + name for name in made.state_dict()])
    made.load_state_dict({name.removeprefix(_PREFIX): tensor for name, tensor in state.items()})
    return made


def served(config: Config, source: Path, tables: list[Table]) -> list[tuple[Table, Vectors]]:
    """The tables of a bundle and their vectors, from those of the checkpoint `source`.

    Raises:
        InputError: as `Fine` and `StoredTensor`.
    """
    found: list[tuple[Table, Vectors]] = [(t, StoredTensor(source, t.tensor)) for t in tables if t.name != LAYERS]
    of_name = {table.name: table for table in tables}
    if LAYERS in of_name:
        coarse = of_name[COARSE]
        found.append((Table(FINE, "", coarse.ids, config.model.dim), Fine(config, source, coarse, of_name[LAYERS])))
    return found
