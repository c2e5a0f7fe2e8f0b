"""The streaming reader against one that takes a row at a time, and its promises to the ranks."""

import math
import os
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data import reader as module
from recsys.data.batch import Batch
from recsys.data.encode import Block, Encoder
from recsys.data.fit import fit
from recsys.data.pieces import Piece, deal, row_groups
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.data.stored import Footers, read_group
from recsys.errors import InputError
from tests import wide


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("wide")
    return fit(wide.config(wide.write(folder / "data"), folder / "run"))


def everything(batch: Batch) -> list[torch.Tensor]:
    tensors = [batch.dense, batch.history_label, batch.label, batch.weight, batch.row_id]
    return tensors + [x for keyed in (batch.sparse, batch.items) for x in (keyed.values(), keyed.lengths())]


def same(one: Batch, other: Batch) -> bool:
    return all(map(torch.equal, everything(one), everything(other)))


def ids(batches: Iterator[Batch]) -> list[int]:
    return torch.cat([batch.row_id for batch in batches]).tolist()


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_batches_hold_what_a_slow_reader_holds(tmp_path: Path, integers: bool, split: str) -> None:
    config = wide.config(wide.write(tmp_path / "data", integers=integers), tmp_path / "run")
    expected = wide.Slow(config).encoded(split)
    reader = Reader(fit(config), split, batch_size=7, shuffle=30)
    seen = 0
    for batch in reader.epoch():
        for row in wide.taken_apart(batch):
            if row.pop("weight"):
                wanted = expected[row.pop("row_id")]
                assert row.pop("dense") == pytest.approx(wanted["dense"], abs=1e-5)
                assert row == {key: value for key, value in wanted.items() if key != "dense"}
                seen += 1
    assert seen == len(expected)
    # The reference is not about nothing: each hard case occurs.
    rows = wide.Slow(config).rows(split)
    assert any(row["tags"] is None for row in rows) and any(row["tags"] == [] for row in rows)
    assert any(row["device"] is None for row in rows) and any(not row["history"] for row in rows)
    assert any(value["item_id"] == [0] for value in expected.values()) == (split == "test")


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 16, 64, 500])
@pytest.mark.parametrize("shuffle", [0, 50])
def test_every_row_once_and_equal_batches(encoder: Encoder, world_size: int, batch_size: int, shuffle: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        reader = Reader(encoder, "train", batch_size, rank, world_size, shuffle=shuffle, seed=1)
        assert reader.steps == math.ceil(math.ceil(203 / world_size) / batch_size)
        batches = list(reader.epoch(2))
        assert len(batches) == reader.steps
        for batch in batches:
            assert len(batch.label) == batch_size == len(batch.dense) == batch.sparse.stride() == batch.items.stride()
            padding = batch.row_id < 0
            assert torch.equal(batch.weight, 1.0 - padding.float())
            assert (batch.row_id[padding] == -1).all()
        seen += [k for k in ids(iter(batches)) if k >= 0]
    assert sorted(seen) == list(range(203))


def test_each_row_group_is_encoded_once_and_each_footer_read_once(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, encoded, asked = Reader(encoder, "train", batch_size=16), list[int](), list[Path]()
    encode, footer = Encoder.encode, pq.read_metadata

    def counted_encode(self: Encoder, table: pa.Table, first_row: int) -> Block:
        encoded.append(table.num_rows)
        return encode(self, table, first_row)

    def counted_footer(path: Path) -> pq.FileMetaData:
        asked.append(path)
        return footer(path)

    monkeypatch.setattr(Encoder, "encode", counted_encode)
    monkeypatch.setattr(pq, "read_metadata", counted_footer)
    for _ in range(2):
        list(reader.epoch())
    whole = [piece.rows for piece in reader.groups]
    assert encoded == [0, *whole, 0, *whole]
    assert sorted(asked) == [*dict.fromkeys(piece.path for piece in reader.groups)]


def test_padding_asks_for_the_unknown_item_and_nothing_else(encoder: Encoder) -> None:
    *_, last = Reader(encoder, "valid", batch_size=30).epoch()
    padding = [row for row in wide.taken_apart(last) if row["row_id"] == -1]
    assert len(padding) == 60 - 41
    for row in padding:
        assert row["item_id"] == [0] and not any(row[key] for key in ("history", "user_id", "genres", "tags"))
        assert row["label"] == 0 and not any(row["dense"])


def test_without_shuffling_rows_come_in_the_order_of_the_files(encoder: Encoder) -> None:
    assert ids(Reader(encoder, "valid", batch_size=41).epoch()) == list(range(41))


def test_epochs_differ_and_the_seed_decides(encoder: Encoder) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return ids(Reader(encoder, "train", 16, shuffle=50, seed=seed).epoch(epoch))

    assert order(3, 0) == order(3, 0)
    assert len({tuple(order(3, 0)), tuple(order(3, 1)), tuple(order(4, 0)), tuple(range(203))}) == 4


def test_shuffling_mixes_across_files(encoder: Encoder) -> None:
    first = ids(islice(Reader(encoder, "train", 50, shuffle=100).epoch(), 1))
    groups = {k // 10 if k < 101 else 100 + (k - 101) // 17 for k in first}
    assert len(groups) > 5, "50 rows of a buffer of 100 come from many row groups"


@pytest.mark.parametrize("shuffle", [0, 40])
@pytest.mark.parametrize("rank", [0, 1])
def test_start_step_gives_what_an_uninterrupted_epoch_gives(encoder: Encoder, shuffle: int, rank: int) -> None:
    reader = Reader(encoder, "train", 8, rank, 2, shuffle=shuffle, seed=5, hide_ids=0.3)
    whole = list(reader.epoch(1))
    for start in range(reader.steps + 1):
        rest = list(reader.epoch(1, start))
        assert len(rest) == reader.steps - start
        assert all(map(same, rest, whole[start:]))


def test_blocks_before_the_start_are_not_read(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = read_group

    def counted(piece: Piece, columns: list[str], known: Footers) -> pa.Table:
        read.append(piece.rows)
        return original(piece, columns, known)

    monkeypatch.setattr(module, "read_group", counted)
    reader = Reader(encoder, "train", 8, shuffle=20)
    list(reader.epoch(0, start_step=reader.steps - 1))
    assert 0 < sum(read) < 60, "of 203 rows only the last blocks are read"


@pytest.mark.parametrize("shuffle", [15, 60])
def test_the_buffer_never_holds_more_than_asked_and_a_row_group(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, shuffle: int
) -> None:
    held: list[int] = []
    original = Reader._load

    def measured(self: Reader, job: module.Job, tables: Iterator[pa.Table]) -> Block:
        held.append(sum(piece.rows for piece in job.pieces))
        return original(self, job, tables)

    monkeypatch.setattr(Reader, "_load", measured)
    list(Reader(encoder, "train", 8, shuffle=shuffle).epoch())
    assert len(held) > 1 and max(held) < shuffle + 17


def test_a_split_smaller_than_the_world_still_gives_every_rank_a_batch(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data", {"train": 50, "valid": 2, "test": 2})
    encoder = fit(wide.config(path, tmp_path / "run"))
    readers = [Reader(encoder, "valid", 4, rank, 3) for rank in range(3)]
    batches = [list(reader.epoch()) for reader in readers]
    assert [len(each) for each in batches] == [1, 1, 1]
    assert sorted(k for each in batches for k in ids(iter(each)) if k >= 0) == [0, 1]


def test_shares_differ_by_one_row_at_most(encoder: Encoder) -> None:
    pieces = row_groups(split_files(Path(encoder.config.data.path), "train"))
    shares = [sum(piece.rows for piece in deal(pieces, rank, 7)) for rank in range(7)]
    assert sum(shares) == 203 and max(shares) - min(shares) <= 1


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    encoder = fit(wide.config(path, tmp_path / "run"))
    file = split_files(path, "train")[1]
    with pq.ParquetFile(file) as opened:
        at = opened.metadata.row_group(3).column(0).data_page_offset
        size = opened.metadata.row_group(3).total_byte_size
    data = bytearray(file.read_bytes())
    data[at - 20 : at + size // 2] = b"\xff" * (size // 2 + 20)
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"part-00001.parquet: row group [23]: cannot be read"):
        list(Reader(encoder, "train", 16).epoch())


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = wide.write(tmp_path / "data")
    encoder = fit(wide.config(path, tmp_path / "run"))
    file = split_files(path, "train")[0]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"part-00000.parquet"):
        Reader(encoder, "train", 16)


def vanish(file: Path) -> None:
    file.unlink()


def shrink(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def swap(file: Path) -> None:
    """Other rows, as many in each row group."""
    with pq.ParquetFile(file) as opened:
        groups = [opened.read_row_group(k) for k in range(opened.num_row_groups)]
    other = file.with_suffix(".other")
    with pq.ParquetWriter(other, groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group.take(list(range(len(group)))[::-1]))
    other.replace(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # Which of two it is depends on whether the reader had the file open just then.
        (vanish, "cannot be read: .*No such file"),
        (shrink, "(cannot be read: .|expected the file as when the split was opened)"),
        (swap, "expected the file as when the split was opened"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    path = wide.write(tmp_path / "data")
    reader = Reader(fit(wide.config(path, tmp_path / "run")), "train", 4, shuffle=8)
    batches = reader.epoch()
    next(batches)
    for file in split_files(path, "train"):
        change(file)
    with pytest.raises(InputError, match=rf"split=train/part-0000\d.parquet: row group \d+: {said}"):
        list(batches)


def test_a_split_that_is_not_there_is_named(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="feedback"):
        Reader(encoder, "feedback", 16)


def test_leaving_early_ends_the_prefetch(encoder: Encoder) -> None:
    before = threading.active_count()
    batches = Reader(encoder, "train", 4, shuffle=20).epoch()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
