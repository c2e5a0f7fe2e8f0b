"""Whole epochs against a plain reader: which row comes when, which ids are hidden, and what each batch holds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from tests import wide

SEED, EPOCH, HIDE_IDS, HIDE_USERS = 5, 2, 0.3, 0.4
PADDING = -1


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide.write(tmp_path_factory.mktemp("wide") / "data")


def groups(home: Path) -> list[list[int]]:
    """Row ids of each row group of split=train."""
    found: list[list[int]] = []
    for file in split_files(home, "train"):
        metadata = pq.read_metadata(file)
        for k in range(metadata.num_row_groups):
            first = found[-1][-1] + 1 if found else 0
            found.append(list(range(first, first + metadata.row_group(k).num_rows)))
    return found


def ordered(home: Path, rank: int, world_size: int, shuffle: int) -> list[int]:
    """The row ids of a rank's epoch."""
    dealt = groups(home)
    if shuffle:
        dealt = [dealt[k] for k in np.random.default_rng([SEED, EPOCH]).permutation(len(dealt))]
    total = sum(map(len, dealt))
    share = range(rank * total // world_size, (rank + 1) * total // world_size)
    places = iter(range(total))
    dealt = [[row for row in group if next(places) in share] for group in dealt]
    blocks: list[list[int]] = [[]]
    for group in dealt:
        if shuffle and len(blocks[-1]) >= shuffle:
            blocks.append([])
        blocks[-1] += group
    if not shuffle:
        return blocks[0]
    return [
        block[k]
        for number, block in enumerate(blocks)
        for k in np.random.default_rng([SEED, EPOCH, number]).permutation(len(block))
    ]


def hidden(row: int, share: float, salt: int) -> int:
    """What stands for a row in a batch, by Python's own integers."""
    mixed = (row + salt % 2**32) * 0x9E3779B97F4A7C15 % 2**64
    mixed = (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 % 2**64
    return 0 if (mixed >> 40) / 2**24 < share else row


def expected(home: Path, run: Path, rank: int, world_size: int, shuffle: int, size: int) -> Iterator[list[wide.Row]]:
    """The batches of a rank's epoch, without padding."""
    rows = wide.Slow(wide.config(home, run)).encoded("train")
    order = ordered(home, rank, world_size, shuffle)
    for step, start in enumerate(range(0, len(order), size)):
        salt = hash((SEED, EPOCH, step, rank)) % 2**32
        made = [rows[k] | {"row_id": k, "weight": 1.0} for k in order[start : start + size]]
        for row in made:
            row["item_id"] = [hidden(x, HIDE_IDS, salt) for x in row["item_id"]]
            row["history"] = [hidden(x, HIDE_IDS, salt) for x in row["history"]]
            row["user_id"] = [hidden(x, HIDE_USERS, ~salt) for x in row["user_id"]]
        yield made


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (1, 3)])
@pytest.mark.parametrize("shuffle", [0, 50])
@pytest.mark.parametrize("size", [3, 16, 500])
def test_an_epoch_is_what_a_plain_reader_makes(
    home: Path, tmp_path: Path, rank: int, world_size: int, shuffle: int, size: int
) -> None:
    encoder = fit(wide.config(home, tmp_path))
    reader = Reader(encoder, "train", size, rank, world_size, shuffle, SEED, HIDE_IDS, HIDE_USERS)
    wanted, found = list(expected(home, tmp_path, rank, world_size, shuffle, size)), list(reader.epoch(EPOCH))
    assert len(found) == reader.steps and len(wanted) in (reader.steps, reader.steps - 1)
    wanted += [[]] * (reader.steps - len(wanted))
    for batch, rows in zip(found, wanted, strict=True):
        taken = list(wide.taken_apart(batch))
        assert len(taken) == size and all(row["row_id"] == PADDING for row in taken[len(rows) :])
        for row, want in zip(taken, rows, strict=False):
            assert row.pop("dense") == pytest.approx(want["dense"], abs=1e-5)
            assert row == {key: value for key, value in want.items() if key != "dense"}
    shown = [x for rows in wanted for row in rows for x in row["history"]]
    assert 0 < shown.count(0) < len(shown), "some are hidden, and not all"


def test_the_types_of_a_batch(home: Path, tmp_path: Path) -> None:
    batch = next(Reader(fit(wide.config(home, tmp_path)), "train", 16).epoch())
    whole = [batch.history_label, batch.row_id, batch.content_index, batch.sparse.values(), batch.items.values()]
    assert {x.dtype for x in whole} == {torch.int64}
    assert {x.dtype for x in (batch.sparse.lengths(), batch.items.lengths(), batch.content.lengths())} == {torch.int32}
    assert {x.dtype for x in (batch.dense, batch.label, batch.weight)} == {torch.float32}
