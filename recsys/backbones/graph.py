"""The graph that a backbone is trained on: who has a training positive of what.

Held is 8 bytes an edge; while it is read, some 40 (see `recsys.evaluate.positives.pairs`).
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.evaluate.positives import among, candidates, index, liking_users, pairs

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Graph:
    """U users, I items and E edges between them, users and items by code: their position in these arrays."""

    users: pa.Array
    """[U] raw ids of the users with a positive in split=train, sorted."""
    items: pa.Array
    """[I] raw ids of all candidates of a ranking: the warm ones, then the cold ones, each sorted."""
    warm: int
    """How many items are warm: have a row, of whichever label, in split=train."""
    edges: Codes
    """[E] user * I + item of every positive in split=train, ascending, each once; a joined graph has others as well."""

    @classmethod
    def read(cls, dataset: Path) -> "Graph":
        """The training positives of a dataset directory.

        Raises:
            InputError: a file that is not as it should be, no training row, no positive among them, or a user for whom
                every warm item is one.
        """
        items, warm = candidates(dataset)
        users = liking_users(dataset, "train")
        if not len(users):
            raise InputError(f"{dataset}: split 'train' has no row of label 1: expected positives to learn from")
        found = cls(users, items, warm, pairs(dataset, "train", index("user_id", users), index("item_id", items)))
        found._require_negatives(str(dataset))
        return found

    def joined(self, user: Codes, item: Codes, where: str) -> "Graph":
        """With edges between users [n] and items [n] as well; what has none of them keeps its code.

        Raises:
            InputError: no item is left that could be a negative of some user; `where` says whose edges these are.
        """
        found = replace(self, edges=np.union1d(self.edges, user * len(self.items) + item))
        found._require_negatives(where)
        return found

    @cached_property
    def ranked(self) -> Codes:
        """[n] codes of the items that can be negatives: the warm ones, and cold ones with an edge."""
        return np.flatnonzero((np.arange(len(self.items)) < self.warm) | (self.degrees()[1] > 0))

    def _require_negatives(self, where: str) -> None:
        full = np.flatnonzero(self.degrees()[0] >= len(self.ranked))
        if len(full):
            raise InputError(
                f"{where}: user {self.users[int(full[0])].as_py()!r} has a training positive of each of the "
                f"{len(self.ranked)} items that could be a negative: expected at least one more"
            )

    def ends(self, edges: Codes) -> tuple[Codes, Codes]:
        """User and item [n] of edges [n]."""
        user, item = np.divmod(edges, len(self.items))
        return user, item

    def has(self, user: Codes, item: Codes) -> NDArray[np.bool_]:
        """[n] whether there is an edge between them."""
        return among(user * len(self.items) + item, self.edges)

    def degrees(self) -> tuple[Codes, Codes]:
        """Edges of each user [U] and each item [I]."""
        user, item = self.ends(self.edges)
        return np.bincount(user, minlength=len(self.users)), np.bincount(item, minlength=len(self.items))

    def digest(self) -> str:
        """SHA-256 over ids and edges."""
        told = hashlib.sha256(self.edges.tobytes())
        for ids in (self.users, self.items):
            told.update(index("id", ids).digest().encode())
        return told.hexdigest()
