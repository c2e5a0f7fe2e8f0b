"""A file of a store: one table's entries by id, mapped into memory and searched there.

Legend: n entries, m ids asked for, D table width.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from recsys.files import replacing
from recsys.serving.store import Entries, StoreError
from recsys.tables.lookup import places, searched
from recsys.tables.piece import arrow


class Segment:
    """Entries in order of their ids, null last. What is mapped stays readable after the file is gone."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        ids = table["id"].combine_chunks()
        self._nulls = ids.null_count
        self._ids = ids[: len(ids) - self._nulls]

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """Map a file.

        Raises:
            StoreError: it is not there, or not such a file.
        """
        try:
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_file(file).read_all()
            kinds = {"row": pa.int64()}
            if table.column_names != ["id", "row", "vector"] or any(table[k].type != t for k, t in kinds.items()):
                raise ValueError("expected id, row and vector")
            return cls(table)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(f"{path}: not a store's file: {error}") from None

    @classmethod
    def of(cls, entries: Entries) -> "Segment":
        """Entries in memory."""
        dim = entries.vectors.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(arrow(entries.vectors.reshape(-1)), dim)
        ids = entries.ids.cast(searched(entries.ids.type), safe=False)
        table = pa.table({"id": ids, "row": arrow(entries.rows), "vector": vectors})
        return cls(table.take(pc.sort_indices(ids)).combine_chunks())

    def __len__(self) -> int:
        return self.table.num_rows

    def under(self, newer: "Segment") -> "Segment":
        """Both in one, in memory; of an id that both hold the newer entry."""
        ids = self.table["id"].combine_chunks()
        old = self.table.filter(pc.invert(pc.is_in(ids, value_set=newer.table["id"].combine_chunks())))
        both = pa.concat_tables([old, newer.table])
        return Segment(both.take(pc.sort_indices(both["id"].combine_chunks())).combine_chunks())

    def write(self, path: Path) -> None:
        """Write it as a file, all of it or none."""
        with replacing(path) as partial, pa.ipc.new_file(str(partial), self.table.schema) as writer:
            writer.write_table(self.table)

    def find(self, ids: pa.Array) -> pa.Array:
        """[m] int64 places of distinct ids [m], null where it holds none."""
        found = places(self._ids, ids)
        return pc.if_else(ids.is_valid(), found, len(self._ids)) if self._nulls else found

    def take(self, at: pa.Array, ids: pa.Array) -> Entries:
        """The entries at places [m], which are those of `ids`."""
        table = self.table.take(at)
        flat = table["vector"].combine_chunks().flatten()
        rows = torch.from_dlpack(table["row"].combine_chunks())
        return Entries(ids, rows, torch.from_dlpack(flat).view(len(rows), -1))
