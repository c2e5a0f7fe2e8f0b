"""Top users per item: flat against all products by hand, IVF-PQ against flat, both through a file."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.config_simulator import Retrieve
from recsys.errors import InputError
from simulator import retrieve

K = 20
CODED = Retrieve(index="ivf-pq", lists=40, probe=8, bytes=8)


def clustered(count: int, seed: int, middles: int = 40, width: int = 16) -> NDArray[np.float32]:
    """Points around shared middles, of very different lengths."""
    around = np.random.default_rng(0).normal(size=(middles, width))
    random = np.random.default_rng(seed)
    points = around[random.integers(middles, size=count)] + 0.3 * random.normal(size=(count, width))
    return (points * random.uniform(0.5, 2, size=(count, 1))).astype(np.float32)


USERS, ITEMS = clustered(6_000, 1), clustered(200, 2)


def recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(*pair)) / len(pair[1]) for pair in zip(found, true, strict=True)]))


@pytest.fixture(scope="module")
def exact() -> NDArray[np.int64]:
    return np.argsort(-(ITEMS.astype(np.float64) @ USERS.T), axis=1)[:, :K]


def test_flat_finds_the_users_of_the_highest_products(
    tmp_path: Path, exact: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieve, "BATCH", 64)
    retrieve.write(retrieve.build(USERS, Retrieve()), tmp_path / "users.faiss")
    codes, scores = retrieve.top(retrieve.read(tmp_path / "users.faiss"), ITEMS, K)
    assert codes.dtype == np.int64 and recall(codes, exact) == 1
    np.testing.assert_allclose(scores, (USERS[codes] * ITEMS[:, None]).sum(2), rtol=1e-4, atol=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_ivf_pq_finds_most_of_them_in_a_fraction_of_the_bytes(tmp_path: Path, exact: NDArray[np.int64]) -> None:
    retrieve.write(retrieve.build(USERS, CODED), tmp_path / "coded")
    retrieve.write(retrieve.build(USERS, Retrieve()), tmp_path / "flat")
    assert (tmp_path / "coded").stat().st_size < 0.5 * (tmp_path / "flat").stat().st_size
    index = retrieve.read(tmp_path / "coded")
    codes, _ = retrieve.top(index, ITEMS, 5 * K)
    assert recall(codes, exact) > 0.9
    assert recall(codes[:, :K], exact) > 0.6


def test_fewer_users_than_asked_for_are_all_of_them() -> None:
    codes, _ = retrieve.top(retrieve.build(USERS[:7], Retrieve()), ITEMS, K)
    assert codes.shape == (len(ITEMS), 7) and (np.sort(codes, axis=1) == np.arange(7)).all()
    few = retrieve.build(USERS[:300], Retrieve(index="ivf-pq", lists=100, probe=1, bytes=1))
    codes, _ = retrieve.top(few, ITEMS, K)
    assert codes.min() == -1 and (codes[:, 0] >= 0).any()


def test_a_code_that_does_not_divide_the_width_is_refused() -> None:
    with pytest.raises(InputError, match=r"retrieve\.bytes=5: expected a divisor of the width, 16"):
        retrieve.build(USERS, Retrieve(index="ivf-pq", bytes=5))


def test_too_few_users_for_codes_are_refused() -> None:
    with pytest.raises(InputError, match=r"retrieve\.index=ivf-pq: expected 256 users at least, found 255"):
        retrieve.build(USERS[:255], CODED)
    assert retrieve.build(USERS[:256], CODED).ntotal == 256


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone: cannot be read as an index"):
        retrieve.read(tmp_path / "gone")
    (tmp_path / "cut").write_bytes(faiss.serialize_index(retrieve.build(USERS, Retrieve())).tobytes()[:1000])
    with pytest.raises(InputError, match="cut: cannot be read as an index"):
        retrieve.read(tmp_path / "cut")
