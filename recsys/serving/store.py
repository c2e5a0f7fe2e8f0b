"""The online store: what deltas have made of ids since a bundle was exported, for every server that reads it.

A store maps an id of a table to its row and vector, `Entries`, as of one `Head`; null is the id of the unknown row, and
an id that has lost its row is kept with the row `GONE`. A bundle of any version from `since` to `now`, with these laid
over it, is the tables at `now`. Whoever sees a delta first puts it in, all of it or none; a read is of one head, whole.

Legend: n ids, D table width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from torch import Tensor

from recsys.tables.version import Version

GONE = -1
"""The row of an id that has none any more."""


class StoreError(Exception):
    """The store cannot be reached, or holds what it should not: the bundle serves alone meanwhile."""


@dataclass(frozen=True)
class Head:
    """What a store's rows are laid over, and what they make of it."""

    since: Version
    now: Version

    def fits(self, bundle: Version) -> bool:
        """Whether a bundle of this version can be brought to `now`."""
        return (
            (self.now.lineage, self.now.dense) == (bundle.lineage, bundle.dense)
            and self.since.step <= bundle.step <= self.now.step
            and self.since.delta <= bundle.delta <= self.now.delta
        )


@dataclass(frozen=True, eq=False)
class Entries:
    """Ids of one table.

    Attributes:
        ids: [n] distinct, of the table's type; null is the unknown row's.
        rows: [n] int64, `GONE` where the id has none.
        vectors: [n, D] float32; of an id without a row whatever.
    """

    ids: pa.Array
    rows: Tensor
    vectors: Tensor


Tables = Mapping[str, Entries]


class Store(Protocol):
    """One online store. Each call may raise `StoreError`; none blocks for longer than the store's timeout."""

    def head(self) -> Head | None:
        """What it holds; None: nothing yet."""
        ...

    def begin(self, since: Version, instead: Head | None) -> None:
        """Let it hold nothing as of a version, unless its head is not `instead` any more."""
        ...

    def put(self, before: Head, now: Version, tables: Tables) -> bool:
        """Lay entries over all that it holds; False, and nothing done, where its head is not `before` any more."""
        ...

    def read(self, ids: Mapping[str, pa.Array]) -> tuple[Head, dict[str, Entries]]:
        """Of the ids asked for by table ([n], distinct) those that it holds, in any order, all as of one head.

        That head is the newest, or the one that `head` or `put` has found last. A table of which it holds none may be
        missing.
        """
        ...

    def owners(self, table: str, rows: Tensor) -> pa.Array:
        """[n] the ids that were put with these rows [n] int64 last, whether they still have them or not; null: none."""
        ...

    def renew(self) -> None:
        """Say that it is in use: one that no server has used for `serving.store.keep` days is removed.

        Nothing is lost with it: what deltas have made of a bundle is in their log.
        """
        ...
