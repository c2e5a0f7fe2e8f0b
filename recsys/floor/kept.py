"""What the floor may see of the new items: their ids, and of each its `exposure` newest rows before the cut."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.encode import Block, Encoder
from recsys.data.reader import take
from recsys.data.schema import HELD_OUT, read_info, split_files
from recsys.errors import InputError
from recsys.evaluate.scores import read_groups


def new_items(dataset: Path) -> pa.Array:
    """[K] ids of the items that the split holds out."""
    return pq.read_table(dataset / HELD_OUT, columns=["item_id"])["item_id"].combine_chunks()


def check(dataset: Path, exposure: int) -> None:
    """Refuse an exposure that the dataset cannot give.

    Raises:
        InputError: negative, more rows than were kept back, or no rows kept by rank.
    """
    info = read_info(dataset)
    if exposure < 0:
        raise InputError(f"exposure {exposure}: expected a number of kept rows, 0 or more")
    if not exposure:
        return
    if info.split != "exposure" or not split_files(dataset, "feedback"):
        raise InputError(
            f"{dataset}: exposure {exposure} needs split=feedback of the rule 'exposure', found the rule "
            f"{info.split!r} and {len(split_files(dataset, 'feedback'))} feedback files"
        )
    most = max(info.exposures, default=0)
    if exposure > most:
        raise InputError(f"{dataset}: exposure {exposure}: the newest {most} rows of each new item were kept at most")


def kept_rows(encoder: Encoder, exposure: int, rank: int, world_size: int) -> Block | None:
    """This rank's share of the rows of split=feedback with `rank` up to `exposure`, in memory; None at exposure 0.

    Raises:
        InputError: a file that cannot be read or lacks a column.
    """
    if not exposure:
        return None
    kept = [
        table.filter(pc.less_equal(table["rank"], exposure))
        for file in split_files(encoder.config.data.path, "feedback")
        for _, table in read_groups(file, [*encoder.columns(), "rank"])
    ]
    block = encoder.encode(pa.concat_tables(kept), 0)
    rows = np.arange(len(block))
    return take(block, rows[len(rows) * rank // world_size : len(rows) * (rank + 1) // world_size])
