"""Learned rows into the run's tables, by a delta: checkpoints, id maps and the bundle follow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from recsys.coldrows import learned
from recsys.coldrows.learned import Learned
from recsys.config import Config
from recsys.data.encode import ITEM
from recsys.data.ids import UNKNOWN
from recsys.tables import admit, checkpoint, service
from recsys.tables.delta import ROWS, Delta
from recsys.tables.parts import tables_of
from recsys.tables.piece import Piece
from recsys.tables.stored import StoredTensor
from recsys.tables.version import Version


def publish(config: Config, rows: Learned, folder: Path, source: str) -> Delta | None:
    """Give the items rows of the item table, unless they have one, and write their vectors; None: nothing to do.

    Idempotent: what the table holds already is left out. Nothing but the named rows changes.

    folder: of the learned rows, for messages. source: what the delta says of them.

    Raises:
        InputError: they were made for other tables, or there are more new items than free rows; nothing has changed.
    """
    run = Path(config.run)

    def pieces() -> Iterator[Piece]:
        best = checkpoint.best(run / "checkpoints")
        table = next(each for each in tables_of(run, best) if each.name == ITEM)
        stored = StoredTensor(best, table.tensor)
        place = admit.placed(run, table.ids, rows.items, folder / learned.NAME)
        named = torch.from_numpy(place)
        differs = (stored.take(named) != rows.vectors.to(stored.dtype)).any(1).numpy()
        lacking = np.flatnonzero(differs | (table.ids.rows(rows.items) == UNKNOWN))
        base = Version.parse(rows.about.base)
        lacking = lacking[np.argsort(place[lacking])]
        for some in np.split(lacking, range(ROWS, len(lacking), ROWS)) if len(lacking) else ():
            ids = rows.items.take(pa.array(some)).cast(table.ids.ids.type)
            yield Piece.of(ITEM, named[some], ids, rows.vectors[some], source, base)

    return service.publish(run, pieces, stale=config.tables.max_staleness)
