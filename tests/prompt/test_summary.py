"""Summaries and draws against loops by hand, and the map from them to ID vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import warm_moments
from recsys.config_prompt import Summary
from recsys.data.encode import ITEM
from recsys.data.schema import split_files
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.floor.ridge import Ridge
from recsys.prompt import feedback, start, values
from recsys.prompt.summary import Centre, Grouping, Sums, sums
from tests import arrived
from tests.ranks import run_ranks


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = arrived.write(tmp_path_factory.mktemp("prompt"))
    with process_group() as ranks:
        arrived.run(arrived.config(folder), ranks)
    return folder


def rows_of(home: Path, split: str) -> list[dict[str, Any]]:
    return [row for file in split_files(home / "data", split) for row in pq.read_table(file).to_pylist()]


def loaded(home: Path, ranks: Ranks) -> Frozen:
    return Frozen.load(arrived.config(home), arrived.NEW, ranks)


def kept_sums(home: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the new items' newest three rows: the sums, the warm items' mean, and all ID vectors by row."""
    with process_group() as ranks:
        frozen = loaded(home, ranks)
        known = values.fit(frozen.encoder)
        place = frozen.place(np.arange(frozen.encoder.maps[ITEM].capacity))
        given = feedback.of_new(frozen.encoder, known, place, split_files(home / "data", "feedback"), 3)
        mean = warm_moments(frozen)[0].float()
        whole = [Grouping(given.item, frozen.count), Grouping(np.where(given.rank < 2, 0, -1), 1)]
        first, second = sums(frozen, given, whole, mean, 5.0, 4)
        assert second.rows == 2 * frozen.count and np.abs(second.total - first.total.sum(0)).max() > 1e-3
        vectors = frozen.vectors(np.arange(len(frozen.encoder.maps[ITEM].ids) + 1 - len(arrived.NEW)))
    return first.total, mean.numpy(), vectors.numpy()


def test_sums_are_those_of_a_loop_by_hand(home: Path) -> None:
    total, mean, vectors = kept_sums(home)
    train = rows_of(home, "train")
    given = [row["value"] for row in train if row["value"] is not None]
    users = {row["user_id"] for row in train} | {row["user_id"] for row in rows_of(home, "feedback")}
    worth = {}
    for user in users:
        own = [row["value"] for row in train if row["user_id"] == user and row["value"] is not None]
        worth[user] = (sum(own) + 5 * np.mean(given)) / (len(own) + 5)
    spread = np.sqrt(
        np.mean([(row["value"] - worth[row["user_id"]]) ** 2 for row in train if row["value"] is not None])
    )
    with process_group() as ranks:
        index = loaded(home, ranks).encoder.maps[ITEM]
    expected = np.zeros_like(total)
    for row in rows_of(home, "feedback"):
        if row["rank"] > 3:
            continue
        state = []
        for liked in (1, 0):
            seen = [item for item, y in zip(row["history"], row["history_label"], strict=True) if y == liked]
            at = index.rows(pa.array(seen, pa.string())) if seen else np.zeros(0, int)
            at = at[(at > 0) & (at < len(vectors))]
            state.append((vectors[at] - mean).sum(0) / (len(at) + 5))
        s, y = np.concatenate(state), row["label"]
        v = 0.0 if row["value"] is None else (row["value"] - worth[row["user_id"]]) / spread
        expected[arrived.NEW.index(pa.scalar(row["item_id"])).as_py()] += np.concatenate([s, s * y, s * v, [y, v, 1]])
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-4)
    assert (total[:, -1] == 3).all() and np.abs(total[:, :-1]).max() > 0.1


def test_two_ranks_sum_what_one_does(home: Path) -> None:
    one = kept_sums(home)[0]
    for found in run_ranks(2, kept_sums, home):
        np.testing.assert_allclose(found[0], one, rtol=1e-5, atol=1e-5)


def test_a_summary_is_the_mean_of_centred_products() -> None:
    rng = np.random.default_rng(0)
    s, y, v = rng.normal(size=(5, 4)), rng.integers(0, 2, 5).astype(float), rng.normal(size=5)
    rows = np.concatenate([s, s * y[:, None], s * v[:, None], y[:, None], v[:, None], np.ones((5, 1))], axis=1)
    total = Sums(np.stack([rows[:3].sum(0), rows[3:].sum(0), np.zeros(15)]))
    centre = total.centre()
    np.testing.assert_allclose(centre.state, s.mean(0))
    assert centre.label == pytest.approx(y.mean())
    away, late = s - s.mean(0), (y - y.mean())[:, None]
    x = np.concatenate([away, away * late, late, away * v[:, None], v[:, None]], axis=1)
    np.testing.assert_allclose(total.summaries(centre), [x[:3].mean(0), x[3:].mean(0), np.zeros(14)], atol=1e-12)


def test_draws_of_an_item_are_whole_disjoint_and_of_its_own_rows(home: Path) -> None:
    options = Summary(draws=2, rows=4)
    with process_group() as ranks:
        encoder = loaded(home, ranks).encoder
        items, drawn = feedback.of_warm(encoder, values.fit(encoder), options, 8)
    train = rows_of(home, "train")
    own = encoder.maps[ITEM].rows(pa.array([train[row]["item_id"] for row in drawn.row_id]))
    assert np.array_equal(own, items[drawn.item]) and len(set(drawn.row_id)) == len(drawn.row_id)
    counts = np.bincount(encoder.maps[ITEM].rows(pa.array([row["item_id"] for row in train])))[items]
    assert np.array_equal(np.bincount(drawn.item, minlength=len(items)), np.minimum(counts, 8))
    for item in range(len(items)):
        assert sorted(drawn.rank[drawn.item == item]) == list(range(min(counts[item], 8)))


def test_an_item_is_read_by_the_largest_number_of_rows_that_it_has() -> None:
    def constant(value: float) -> Ridge:
        return Ridge(np.zeros(8), np.full(2, value), np.zeros((8, 2)), 1.0)

    read = start.Map(torch.zeros(2), Centre(np.zeros(2), 0.5), {1: constant(1), 4: constant(4), 8: constant(8)})
    total = np.zeros((6, 9))
    total[:, -1] = [0, 1, 3, 4, 7, 100]
    found, size = read(Sums(total))
    assert size.tolist() == [0, 1, 1, 4, 4, 8] and found[:, 0].tolist() == [0, 1, 1, 4, 4, 8]


def test_the_map_is_sklearns_ridge(home: Path) -> None:
    """Weighted by training rows, over every whole draw of the items with twice the rows."""
    options = Summary(draws=2, rows=1, ridge=[0.5])
    with process_group() as ranks:
        frozen = loaded(home, ranks)
        learned, known = start.learn(frozen, options, 16)
        items, drawn = feedback.of_warm(frozen.encoder, known, options, 2)
        counts = frozen.encoder.maps[ITEM].counts[items - 1]
        groups = Grouping(drawn.item * 2 + drawn.rank, 2 * len(items))
        (found,) = sums(frozen, drawn, [groups], warm_moments(frozen)[0].float(), 5.0, 64)
        y = frozen.vectors(items).double().numpy()
    whole = np.flatnonzero(found.rows)
    x, item = found.summaries(learned.centre)[whole], whole // 2
    ridge = learned.ridges[1]
    fitted = SklearnRidge(alpha=ridge.penalty).fit(x, y[item], sample_weight=counts[item].astype(float))
    np.testing.assert_allclose(ridge(x), fitted.predict(x), atol=1e-6)
    assert torch.linalg.cholesky(torch.from_numpy(ridge.residual) + 1e-9 * torch.eye(8)).isfinite().all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_named(wrong: float) -> None:
    column = pa.chunked_array([pa.array([1.0, None]), pa.array([2.0, wrong])])
    with pytest.raises(InputError, match=r"part: column 'value', row 3: expected a finite number or null, found"):
        values.read(column, "part")
    assert np.isnan(values.read(column.slice(0, 2), "part")).tolist() == [False, True]


def test_values_all_equal_or_absent_say_nothing() -> None:
    alike = values.Values(np.array([3.0, 3.0]), 1.0)
    assert alike.relative(np.array([3.0, np.nan]), np.array([1, 1])).tolist() == [0.0, 0.0]
