"""Hidden ids: the stated share, the same item everywhere in a batch, never in evaluation."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from recsys.data.batch import Batch, hide
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.reader import Reader
from tests import wide


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("wide")
    return fit(wide.config(wide.write(folder / "data"), folder / "run"))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 1.0])
def test_the_share_of_items_is_what_was_asked(share: float) -> None:
    rows = np.arange(1, 20001)
    for salt in (0, 1, 12345, 2**32 - 1):
        hidden = hide(rows, share, salt) == 0
        assert hidden.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(rows)) + 1e-9)
    assert (hide(rows, 0.0, 5) == rows).all()


def test_what_is_hidden_changes_from_batch_to_batch_and_falls_on_every_item() -> None:
    rows = np.arange(1, 201)
    times = sum((hide(rows, 0.2, salt) == 0).astype(int) for salt in np.random.default_rng(0).integers(0, 2**32, 500))
    assert times.mean() == pytest.approx(100, abs=5)
    assert times.min() > 50 and times.max() < 150, "5 standard deviations around 100"
    one, other = hide(rows, 0.2, 1) == 0, hide(rows, 0.2, 2) == 0
    assert (one & other).sum() < 25, "independent draws share 0.04 of 200"


def items_of(batch: Batch) -> tuple[list[int], list[list[int]]]:
    rows = list(wide.taken_apart(batch))
    return [row["item_id"][0] for row in rows], [row["history"] for row in rows]


def test_an_item_is_hidden_everywhere_in_a_batch_or_nowhere(encoder: Encoder) -> None:
    hidden_of_batch = []
    open_batches = Reader(encoder, "train", 64, shuffle=300).epoch()
    shut_batches = Reader(encoder, "train", 64, shuffle=300, hide_ids=0.3).epoch()
    for shown, shut in zip(open_batches, shut_batches, strict=True):
        assert torch.equal(shown.row_id, shut.row_id)
        before, after = shown.items.values(), shut.items.values()
        hidden = set(before[(after == 0) & (before != 0)].tolist())
        for row in before.unique().tolist():
            assert set(after[before == row].tolist()) == ({0} if row in hidden else {row})
        assert hidden
        hidden_of_batch.append(frozenset(hidden))
        # Nothing else of the batch is touched.
        assert torch.equal(shown.items.lengths(), shut.items.lengths())
        for name in ("dense", "history_label", "label", "weight"):
            assert torch.equal(getattr(shown, name), getattr(shut, name))
        assert torch.equal(shown.sparse.values(), shut.sparse.values())
    assert len(set(hidden_of_batch)) > 1


def test_nothing_is_hidden_without_being_asked(encoder: Encoder) -> None:
    for batch in Reader(encoder, "valid", 16).epoch():
        targets, _ = items_of(batch)
        assert all(target for target, weight in zip(targets, batch.weight, strict=True) if weight)


def test_a_batch_moves_as_a_whole(encoder: Encoder) -> None:
    batch = next(Reader(encoder, "train", 8).epoch())
    moved = batch.to(torch.device("meta"))
    for item in fields(Batch):
        part = getattr(moved, item.name)
        assert part.device().type == "meta" if callable(part.device) else part.device.type == "meta"


def test_users_are_hidden_by_their_own_share_and_alone(encoder: Encoder) -> None:
    shown = next(Reader(encoder, "train", 203, shuffle=300).epoch())
    shut = next(Reader(encoder, "train", 203, shuffle=300, hide_users=0.3).epoch())
    hidden = set()
    for before, after in zip(wide.taken_apart(shown), wide.taken_apart(shut), strict=True):
        (user,), (now,) = before.pop("user_id"), after.pop("user_id")
        assert before == after and now in (0, user)
        hidden.add((user, now == 0))
    assert len(hidden) == len({user for user, _ in hidden}), "a user is hidden everywhere in a batch or nowhere"
    assert 0.1 < sum(gone for _, gone in hidden) / len(hidden) < 0.5
