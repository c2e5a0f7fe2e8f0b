"""The tabular features: no own label in them, and the history summary against a loop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.fit import fit
from recsys.data.schema import split_files
from recsys.rivals import history
from recsys.rivals.rows import blocks
from recsys.rivals.tabular import Tabular
from tests import tiny


def _flip(dataset: Path, split: str, row: int) -> None:
    """Turn the label of one row."""
    for part in split_files(dataset, split):
        table = pq.read_table(part)
        if row < table.num_rows:
            label = table["label"].to_numpy().copy()
            label[row] = 1 - label[row]
            table = table.set_column(table.schema.get_field_index("label"), "label", pa.array(label))
            return pq.write_table(table, part, row_group_size=pq.read_metadata(part).row_group(0).num_rows)
        row -= table.num_rows
    raise IndexError(row)


def _tabular(dataset: Path, run: Path) -> Tabular:
    return Tabular.fit(fit(tiny.config(dataset, run)))


@pytest.mark.parametrize("row", [0, 17, 150])
def test_own_label_is_in_no_feature(tmp_path: Path, row: int) -> None:
    dataset = tiny.write(tmp_path / "data")
    before = _tabular(dataset, tmp_path).table("train")
    _flip(dataset, "train", row)
    after = _tabular(dataset, tmp_path).table("train")
    assert after.label[row] != before.label[row]
    assert np.array_equal(after.numbers[row], before.numbers[row])
    assert np.array_equal(after.codes, before.codes)
    # The label does count for others, or the test above would show nothing.
    assert not np.array_equal(after.numbers, before.numbers)


def test_labels_of_other_splits_are_in_no_feature(tmp_path: Path) -> None:
    dataset = tiny.write(tmp_path / "data")
    before = _tabular(dataset, tmp_path)
    _flip(dataset, "test", 3)
    _flip(dataset, "valid", 3)
    after = _tabular(dataset, tmp_path)
    for split in ("train", "valid", "test"):
        assert np.array_equal(before.table(split).numbers, after.table(split).numbers)


def test_history_against_a_loop(tmp_path: Path) -> None:
    dataset = tiny.write(tmp_path / "data")
    encoder = fit(tiny.config(dataset, tmp_path))
    kinds, side = history.traits(encoder), history.side_rows(encoder)
    assert [kind.name for kind in kinds] == ["genres"]
    genres = {
        item: {f"g{j}" for j in range(k % 4)} for k, item in enumerate(f"item {k:02d}" for k in range(tiny.ITEMS))
    }
    row = 0
    rows = pa.concat_tables([pq.read_table(part) for part in split_files(dataset, "test")]).to_pylist()
    for block in blocks(encoder, "test"):
        label = history.liked(encoder, block)
        quality = np.full(len(label), 0.25)
        found = history.summarise(block, label, quality, side, kinds, np.full(len(block), 0.5))
        for k in range(len(block)):
            record = rows[row + k]
            pairs = list(zip(record["history"], record["history_label"], strict=True))
            same = [liked for item, liked in pairs if genres[item] & genres[record["item_id"]]]
            share = (sum(liked for _, liked in pairs) + 3 * 0.5) / (len(pairs) + 3)
            recent = [liked for _, liked in pairs[-5:]]
            assert found["history length"][k] == np.log1p(len(pairs))
            assert found["history liked"][k] == pytest.approx(share)
            assert found["history liked 5"][k] == pytest.approx((sum(recent) + 3 * share) / (len(recent) + 3))
            assert found["history same genres"][k] == len(same)
            assert found["history liked same genres"][k] == pytest.approx((sum(same) + 3 * share) / (len(same) + 3))
            beyond = sum(liked - 0.25 for liked in same) / (len(same) + 3)
            assert found["history residual same genres"][k] == pytest.approx(beyond)
        row += len(block)
    assert row == len(rows)


def test_a_ranker_without_history_gives_rivals_none(tmp_path: Path) -> None:
    dataset = tiny.write(tmp_path / "data")
    config = tiny.config(dataset, tmp_path)
    without = Tabular.fit(fit(replace(config, model=replace(config.model, history=False))))
    assert not [name for name in without.layout.numbers if name.startswith("history")]
    assert np.isfinite(without.table("test").numbers).all()
