"""Rows under a change of ranks and under drawn negatives: each that is of an epoch comes once, as the file has it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.pieces import Dealt, Leg
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from tests import wide

ROWS = 203


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("wide")
    return fit(wide.config(wide.write(folder / "data"), folder / "run"))


def ranks_of(encoder: Encoder, dealt: Dealt, keep: float = 1.0) -> list[Reader]:
    return [
        Reader(encoder, "train", dealt.batch_size, rank, dealt.world_size, dealt.shuffle, 5, keep_negatives=keep)
        for rank in range(dealt.world_size)
    ]


def ids(reader: Reader, epoch: int, before: tuple[Leg, ...], steps: int | None = None) -> list[int]:
    batches = list(reader.epoch(epoch, before=before))
    assert len(batches) == reader.steps_left(epoch, before), "equal on every rank"
    found = torch.cat([batch.row_id for batch in batches[:steps]] or [torch.zeros(0, dtype=torch.int64)])
    return [k for k in found.tolist() if k >= 0]


CHANGES = {
    "two to one": [(Dealt(2, 16, 64), 3), (Dealt(1, 16, 64), None)],
    "two to four": [(Dealt(2, 16, 64), 3), (Dealt(4, 8, 64), None)],
    "in one block": [(Dealt(2, 4, 1000), 1), (Dealt(3, 4, 1000), None)],
    "another batch and buffer": [(Dealt(2, 16, 64), 2), (Dealt(2, 5, 30), None)],
    "thrice": [(Dealt(2, 16, 40), 2), (Dealt(3, 7, 64), 3), (Dealt(4, 4, 25), 2), (Dealt(1, 9, 50), None)],
    "in the files' order": [(Dealt(2, 16, 0), 2), (Dealt(3, 16, 0), None)],
}


@pytest.mark.parametrize("keep", [1.0, 0.4])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_left_of_an_epoch_is_read_once_under_other_ranks(encoder: Encoder, change: str, keep: float) -> None:
    seen: Counter[int] = Counter()
    before: tuple[Leg, ...] = ()
    for dealt, steps in CHANGES[change]:
        readers = ranks_of(encoder, dealt, keep)
        assert {reader.rows_left(1, before) for reader in readers} == {readers[0].rows - seen.total()}
        for reader in readers:
            seen.update(ids(reader, 1, before, steps))
        before = (*before, Leg(dealt, steps or 0))
    whole = [k for reader in ranks_of(encoder, Dealt(2, 16, 64), keep) for k in ids(reader, 1, ())]
    assert seen == Counter(whole), "each row of the epoch, and each once"
    assert len(whole) == ROWS or keep < 1


def test_a_row_is_the_same_wherever_it_is_dealt(encoder: Encoder) -> None:
    expected = wide.Slow(encoder.config).encoded("train")
    [reader] = ranks_of(encoder, Dealt(1, 9, 50), keep=0.5)
    seen = 0
    for batch in reader.epoch(0, before=(Leg(Dealt(2, 16, 64), 2),)):
        for row in wide.taken_apart(batch):
            if row.pop("weight"):
                wanted = expected[row.pop("row_id")]
                assert row.pop("dense") == pytest.approx(wanted["dense"], abs=1e-5)
                assert row == {key: value for key, value in wanted.items() if key != "dense"}
                seen += 1
    assert seen == reader.rows - 64


def labels(encoder: Encoder) -> np.ndarray:
    files = split_files(Path(encoder.config.data.path), "train")
    return np.concatenate([pq.ParquetFile(file).read(["label"])["label"].to_numpy() for file in files])


def test_negatives_are_drawn_at_their_share_and_anew_each_epoch(encoder: Encoder) -> None:
    label = labels(encoder)
    negatives, epochs, share = int((label == 0).sum()), 60, 0.3
    [reader] = ranks_of(encoder, Dealt(1, 64, 100), keep=share)
    assert reader.rows == (label == 1).sum() + int(share * negatives)
    drawn = [np.array(sorted(ids(reader, epoch, ()))) for epoch in range(epochs)]
    assert all(len(rows) == reader.rows for rows in drawn), "as many in each epoch"
    assert all(set(np.flatnonzero(label)) <= set(rows) for rows in drawn), "no positive is left out"
    taken = np.bincount(np.concatenate(drawn), minlength=ROWS)[label == 0] / epochs
    # Binomial: a negative's share of 60 draws has a standard deviation of 0.06.
    assert abs(taken - share).max() < 5 * np.sqrt(share * (1 - share) / epochs)
    assert len({tuple(rows) for rows in drawn}) == epochs
    assert ids(reader, 3, ()) == ids(ranks_of(encoder, Dealt(1, 64, 100), keep=share)[0], 3, ()), "by the seed alone"


def test_drawn_negatives_resume_at_a_step(encoder: Encoder) -> None:
    for reader in ranks_of(encoder, Dealt(2, 8, 40), keep=0.4):
        whole = [batch.row_id for batch in reader.epoch(1)]
        for start in range(reader.steps + 1):
            rest = [batch.row_id for batch in reader.epoch(1, start)]
            assert len(rest) == reader.steps - start and all(map(torch.equal, rest, whole[start:]))
