"""What the floor may see of the new items: their ids, and of each the first `exposure` rows of its feedback by rank."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.encode import Block, Encoder
from recsys.data.schema import HELD_OUT, KEEPING, read_info, split_files
from recsys.data.side import decoded
from recsys.errors import InputError
from recsys.evaluate.held_out import held_out
from recsys.evaluate.scores import read_groups
from recsys.storage import Location, at


def new_items(dataset: Location) -> pa.Array:
    """[K] ids of the items that the split holds out.

    Raises:
        InputError: there are none, or held_out.parquet is not as it should be.
    """
    found = [table["item_id"] for table in held_out(dataset, _kind(dataset))]
    items = pa.concat_arrays([chunk for column in found for chunk in column.chunks]) if found else []
    if not len(items):
        raise InputError(f"{dataset / HELD_OUT}: expected the new items to be scored, found no held-out item")
    return items


def check(dataset: Location, exposure: int) -> None:
    """Refuse an exposure that the dataset cannot give.

    Raises:
        InputError: negative, more rows than were kept back, or no rows kept by rank.
    """
    info = read_info(dataset)
    if exposure < 0:
        raise InputError(f"exposure {exposure}: expected a number of kept rows, 0 or more")
    if not exposure:
        return
    if info.split not in KEEPING or not split_files(dataset, "feedback"):
        raise InputError(
            f"{dataset}: exposure {exposure} needs split=feedback of the rule 'exposure' or 'warm-up', found the rule "
            f"{info.split!r} and {len(split_files(dataset, 'feedback'))} feedback files"
        )
    most = max(info.exposures, default=0)
    if exposure > most:
        raise InputError(f"{dataset}: exposure {exposure}: {most} rows of each new item were kept at most")


def kept_rows(encoder: Encoder, exposure: int, rank: int, world_size: int) -> Block | None:
    """This rank's share of the rows of split=feedback with `rank` up to `exposure`, in memory; None at exposure 0.

    Raises:
        InputError: a file that cannot be read or lacks a column.
    """
    if not exposure:
        return None
    kept = kept_table(at(encoder.config.data.path), exposure, encoder.columns())
    begin, end = (kept.num_rows * k // world_size for k in (rank, rank + 1))
    return encoder.encode(kept.slice(begin, end - begin), begin)


def kept_table(dataset: Location, exposure: int, columns: list[str]) -> pa.Table:
    """`columns` of the rows of split=feedback with `rank` up to `exposure` > 0, in memory.

    Raises:
        InputError: a file that cannot be read or lacks a column.
    """
    return pa.concat_tables(_kept(dataset, exposure, columns)).select(columns)


def count(dataset: Location, exposure: int) -> int:
    """How many rows of split=feedback have `rank` up to `exposure`."""
    return sum(table.num_rows for table in _kept(dataset, exposure, [])) if exposure else 0


def _kept(dataset: Location, exposure: int, columns: list[str]) -> Iterator[pa.Table]:
    for file in split_files(dataset, "feedback"):
        for _, table in read_groups(file, [*columns, "rank"]):
            yield table.filter(pc.less_equal(table["rank"], exposure))


def _kind(dataset: Location) -> pa.DataType:
    """The type of item ids in split=train."""
    for file in split_files(dataset, "train"):
        for _, table in read_groups(file, ["item_id"]):
            return decoded(table["item_id"]).type
    raise InputError(f"{dataset}: split 'train' has no rows")
