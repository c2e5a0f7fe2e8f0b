"""Kept rows: each rank encodes its own share, and the shares are all of them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.encode import Block
from recsys.data.fit import fit
from recsys.floor.kept import kept_rows
from tests import arrived, tiny


@pytest.mark.parametrize("world_size", [1, 3, 11])
def test_a_rank_encodes_its_share_alone(tmp_path: Path, world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = fit(arrived.config(arrived.write(tmp_path)))
    asked: list[int] = []
    shipped = encoder.encode

    def spy(table: pa.Table, first_row: int) -> Block:
        asked.append(table.num_rows)
        return shipped(table, first_row)

    monkeypatch.setattr(encoder, "encode", spy)
    blocks = [kept_rows(encoder, 2, rank, world_size) for rank in range(world_size)]
    assert sum(asked) == 2 * tiny.NEW and max(asked) - min(asked) <= 1
    (whole,) = [kept_rows(encoder, 2, 0, 1)]
    assert whole is not None
    for name in ("user", "item", "label", "row_id"):
        parts = [getattr(block, name) for block in blocks]
        assert np.array_equal(np.concatenate(parts), getattr(whole, name))
    assert kept_rows(encoder, 0, 0, 1) is None
