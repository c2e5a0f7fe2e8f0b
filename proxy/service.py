"""The generation service: proxies of one item or a few, in memory, the moment they are uploaded.

    generator = Generator.of(settings.load("configs/my-slot-ranker.yaml"))
    found = generator([{"item_id": "new", "title": "Heat", "text": "A thief and a detective."}])
    found.fine                                      # [1, D]

It writes nothing: to have the items scored everywhere, `tools.align generate` makes a delta of the same vectors.

Legend: n items, C and G widths of the content tables, D embedding width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from proxy import content, kept
from proxy.content import Content
from proxy.issue import Target, fitted
from proxy.kept import Kept
from recsys import runs
from recsys.config import Config
from recsys.errors import InputError
from recsys.model.proxies import Proxies
from recsys.tables.locks import reading


@dataclass(frozen=True, eq=False)
class Served:
    """Proxies of n items, from values in half precision as tables hold them.

    Attributes:
        told: [n] whether the item has any content; the vectors of one without are what the ranker reads for such.
        coarse: [n, C] float32; layers: [n, G] float32 and fine: [n, D] float32, where the ranker reads layers.
    """

    ids: pa.Array
    told: NDArray[np.bool_]
    coarse: Tensor
    layers: Tensor | None
    fine: Tensor | None


class Generator:
    """An encoder, and the adaptor and gate of a ranker, loaded once. Calls may come from several threads."""

    def __init__(self, encoder: Kept, proxies: Proxies, widths: list[int]) -> None:
        """`widths`: C, and G where the ranker reads layers."""
        self._encoder, self._proxies, self._widths = encoder, proxies, widths

    @classmethod
    def of(cls, config: Config, device: torch.device | None = None) -> "Generator":
        """For the best checkpoint of the config's run; after a retrain another one is needed.

        Raises:
            InputError: the run has none, or its ranker reads no proxies that can be made anew (`proxy.kept`).
        """
        runs.require(config)
        with reading(Path(config.run)):
            target = Target(config)
            proxies = target.proxies(config)
        encoder = kept.load(config, device or torch.device("cpu"))
        return cls(encoder, proxies, [table.dim for table in target.tables])

    @torch.inference_mode()
    def __call__(self, items: Sequence[Mapping[str, Any]] | Content) -> Served:
        """Proxies of n >= 1 items, in their order.

        Args:
            items: each an `item_id` and what the template names (and `image`, bytes), as in items.parquet.

        Raises:
            InputError: a value of a type that cannot be read.
        """
        given = items if isinstance(items, Content) else content.of(_table(items), self._encoder.options)
        told = ~given.empty
        at = torch.from_numpy(np.flatnonzero(told))
        encoded = self._encoder.encode(given.take(at.numpy())) if len(at) else ()
        tables = [torch.zeros(len(given), width) for width in self._widths]
        for table, vectors in zip(tables, encoded, strict=False):
            table[at] = fitted(vectors.half().float(), table.shape[1])
        if len(tables) == 1:
            return Served(given.ids, told, tables[0], None, None)
        coarse, layers = tables
        return Served(given.ids, told, coarse, layers, self._proxies.fine(coarse, layers))


def _table(items: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys(["item_id", *(name for item in items for name in item)])
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([item.get(name) for item in items])
        except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
            raise InputError(f"items: {name!r}: expected values of one type that Parquet can hold: {error}") from None
    return pa.table(columns)
