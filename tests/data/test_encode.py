"""Scalers by hand; a saved encoder encodes alike; a broken or foreign one is refused."""

import itertools
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.encode import Block, Encoder
from recsys.data.fit import fit
from recsys.data.jagged import Jagged
from recsys.data.schema import split_files
from recsys.data.side import Moments, Scaler, floats, lists
from recsys.errors import InputError
from tests import wide


@pytest.fixture
def trained(tmp_path: Path) -> Encoder:
    encoder = fit(wide.config(wide.write(tmp_path / "data"), tmp_path / "run"))
    encoder.save(tmp_path / "run" / "encoder")
    return encoder


def folder_of(encoder: Encoder) -> Path:
    return Path(encoder.config.run) / "encoder"


def arrays(block: Block) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for item in fields(Block):
        value = getattr(block, item.name)
        for part in value if isinstance(value, list) else [value]:
            found += [part.values, part.offsets] if isinstance(part, Jagged) else [part]
    return found


def test_a_loaded_encoder_encodes_alike(trained: Encoder) -> None:
    loaded = Encoder.load(trained.config, folder_of(trained))
    assert loaded.spec == trained.spec
    with pq.ParquetFile(split_files(trained.config.data.path, "test")[0]) as file:
        table = file.read()
    for mine, theirs in zip(arrays(trained.encode(table, 5)), arrays(loaded.encode(table, 5)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    for one, other in ((trained.users, loaded.users), (trained.items, loaded.items)):
        np.testing.assert_array_equal(one.dense, other.dense)


def test_the_order_of_the_spec_is_user_item_context(trained: Encoder) -> None:
    spec = trained.spec
    # user_id lies on the interaction itself, so it comes among the context columns.
    assert [table.name for table in spec.single] == ["gender", "user_id", "device"]
    assert [table.name for table in spec.multi] == ["genres", "tags"]
    assert (spec.item.name, spec.dense, spec.history) == ("item_id", 3, 6)


def test_an_unfinished_encoder_is_not_one(trained: Encoder) -> None:
    (folder_of(trained) / "encoder.json").unlink()
    with pytest.raises(InputError, match="no encoder: train first"):
        Encoder.load(trained.config, folder_of(trained))


def test_broken_parts_are_refused(trained: Encoder) -> None:
    (folder_of(trained) / "tags.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"tags.parquet: not a readable id map"):
        Encoder.load(trained.config, folder_of(trained))
    (folder_of(trained) / "encoder.json").write_text("{")
    with pytest.raises(InputError, match="no encoder"):
        Encoder.load(trained.config, folder_of(trained))


def test_a_feature_it_was_not_fitted_for_is_refused(trained: Encoder, tmp_path: Path) -> None:
    more = [*wide.FEATURES, {"name": "title", "of": "item"}]
    config = wide.config(tmp_path / "data", tmp_path / "run", features=more)
    with pytest.raises(InputError, match="feature 'title' of the config was not in the training run"):
        Encoder.load(config, folder_of(trained))


def test_scaler_by_hand() -> None:
    values, counts = np.array([1.0, np.nan, 4.0]), np.array([3, 50, 1])
    scaler = Scaler.fit(values, counts, log=False)
    assert scaler.mean == pytest.approx((1 * 3 + 4) / 4)
    assert scaler.std == pytest.approx(math.sqrt((3 * 0.75**2 + 2.25**2) / 4))
    assert scaler(np.array([np.nan, scaler.mean])).tolist() == [0, 0]
    logged = Scaler.fit(np.array([-math.expm1(1), math.expm1(3)]), np.ones(2), log=True)
    assert (logged.mean, logged.std) == pytest.approx((1.0, 2.0))
    assert logged(np.array([0.0])).tolist() == pytest.approx([-0.5])


def test_a_constant_column_is_zero_not_an_error() -> None:
    for constant in (0.0, 7.0, 0.1, 1e6 + 0.1, 1.7e9):
        scaler = Scaler.fit(np.full(1000, constant), np.ones(1000), log=False)
        assert np.abs(scaler(np.array([constant]))) < 1e-3
        assert np.isfinite(scaler(np.array([constant + 1])))


def test_large_numbers_keep_their_spread() -> None:
    """Seconds since 1970, or prices in cents: the mean is far larger than the deviation."""
    values = 1.7e9 + np.random.default_rng(0).normal(0, 5.0, 10_000)
    scaler = Scaler.fit(values, np.ones(len(values)), log=False)
    assert scaler.std == pytest.approx(float(values.std()), rel=1e-3)
    assert float(scaler(values).std()) == pytest.approx(1.0, rel=1e-2)


def test_small_numbers_keep_theirs() -> None:
    values = np.random.default_rng(0).normal(1e-7, 1e-8, 1000)
    assert Scaler.fit(values, np.ones(1000), log=False).std == pytest.approx(float(values.std()))


def test_moments_add_up_over_row_groups() -> None:
    values = np.random.default_rng(0).normal(3, 2, 900)
    parts = [Moments.of(part, np.ones(len(part)), False) for part in np.split(values, 9)]
    total = sum(parts, Moments()).scaler(False)
    assert (total.mean, total.std) == pytest.approx((values.mean(), values.std()))
    assert Moments().scaler(False) == Scaler(0.0, 1.0, False)


def test_lists_and_floats_of_sliced_chunked_columns() -> None:
    whole = [[1, 2], None, [], [3], [4, 5, 6], None, [7]]
    column = pa.chunked_array([pa.array(whole[:3], pa.list_(pa.int64())), pa.array(whole[3:], pa.list_(pa.int64()))])
    for start, stop in ((0, 7), (1, 6), (3, 4), (2, 2)):
        values, offsets = lists(column.slice(start, stop - start))
        found = [values.to_pylist()[a:b] for a, b in itertools.pairwise(offsets)]
        assert found == [each or [] for each in whole[start:stop]]
    numbers = pa.chunked_array([pa.array([1, None], pa.int32()), pa.array([3], pa.int32())])
    np.testing.assert_array_equal(floats(numbers), [1.0, np.nan, 3.0])
