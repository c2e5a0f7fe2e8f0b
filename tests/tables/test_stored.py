"""Rows read straight from a checkpoint's files, against the checkpoint loaded whole by torch."""

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed.checkpoint as dcp

from recsys.data.ids import IdMap
from recsys.errors import InputError
from recsys.tables import checkpoint, parts
from recsys.tables.checkpoint import Progress
from recsys.tables.parts import Table
from recsys.tables.places import of_metadata
from recsys.tables.stored import StoredTensor
from tests.ranks import run_ranks
from tests.tables.saved import DIM, ITEM, SHARDINGS, VERSION, best, plain

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_any_rows_of_any_sharding(home: Path, sharding: str) -> None:
    stored, expected = StoredTensor(best(home, sharding), ITEM), plain(home / sharding)["item_id"]
    assert (stored.rows, stored.dim) == expected.shape == (len(expected), DIM)
    for rows in (range(len(expected)), range(3, 21), range(7, 7), range(len(expected) - 1, len(expected))):
        stored.check(rows)
        np.testing.assert_array_equal(stored.read(rows).numpy(), expected[rows.start : rows.stop])
    some = torch.tensor([20, 0, 3, 20, len(expected) - 1])
    np.testing.assert_array_equal(stored.take(some).numpy(), expected[some])
    assert stored.take(some[:0]).shape == (0, DIM)


def test_a_flipped_byte_is_found_and_a_cut_file_is_named(home: Path) -> None:
    source = best(home, "table_wise")
    stored = StoredTensor(source, ITEM)
    file = stored.shards[0].path
    whole = file.read_bytes()
    value = plain(home / "table_wise")["item_id"][:4].tobytes()
    place = whole.index(value)
    try:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=f"{file.name}: damaged"):
            StoredTensor(source, ITEM).check(range(5))
        file.write_bytes(whole[: place + 100])
        with pytest.raises(InputError, match=file.name):
            StoredTensor(source, ITEM).check(range(5))
    finally:
        file.write_bytes(whole)
    with pytest.raises(InputError, match="tensor nothing: no such table"):
        StoredTensor(source, "nothing")


ROWS, WIDTH, PART_ROWS = 1_000_000, 64, 8192


def write_parts(source: Path, folder: Path) -> tuple[int, int]:
    """Growth of this process's largest memory in bytes while a table is written, and the bytes of its vectors."""
    table = Table(
        "item_id", "items.embeddings.item_id.weight", IdMap("", pa.array(range(ROWS - 1)), np.zeros(0), ROWS), WIDTH
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in parts.write(table, StoredTensor(source, table.tensor), folder, 0, 1, PART_ROWS, int8=False):
        path.unlink()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, ROWS * WIDTH * 4


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    table = torch.arange(ROWS, dtype=torch.float32).unsqueeze(1).expand(-1, WIDTH).contiguous()
    metadata = dcp.save({"model.items.embeddings.item_id.weight": table}, checkpoint_id=tmp_path / "partial")
    checkpoint.seal(tmp_path / "partial", tmp_path / "saved", Progress(), VERSION, of_metadata(metadata))
    del table
    [(grown, size)] = run_ranks(1, write_parts, tmp_path / "saved", tmp_path / "parts")
    assert grown < size / 2, f"{grown:,} bytes more for a table of {size:,}"
