"""The items that a dataset's split rule holds out, from its `held_out.parquet`."""

from collections.abc import Iterator

import pyarrow as pa

from recsys.data.check import same_ids
from recsys.data.schema import HELD_OUT
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups
from recsys.storage import Location


def held_out(dataset: Location, kind: pa.DataType, columns: tuple[str, ...] = ()) -> Iterator[pa.Table]:
    """`item_id`, as `kind`, the type of the dataset's ids, and `columns` of the held-out items, by row group.

    Raises:
        InputError: a missing file or column, ids of another type, or a null.
    """
    file = dataset / HELD_OUT
    for group, table in read_groups(file, ["item_id", *columns]):
        where = f"{file}: row group {group}"
        for name in table.column_names:
            if table[name].null_count:
                raise InputError(f"{where}: column {name!r}: expected no nulls, found {table[name].null_count}")
        found = table.schema.field("item_id").type
        if table.num_rows and not same_ids(found, kind):
            raise InputError(f"{where}: column 'item_id': expected {kind} as in the dataset's rows, found {found}")
        yield table.set_column(0, "item_id", decoded(table["item_id"]).cast(kind))
