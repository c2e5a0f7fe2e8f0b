"""Training on two planted blocks: what is learned, written, resumed and refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from recsys.backbones.bpr import _loss
from recsys.backbones.graph import Graph
from recsys.backbones.train import train
from recsys.config_backbone import Kind
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.evaluate import ranking
from recsys.evaluate.vectors import Vectors, read_vectors
from recsys.model.backbones import MF, bpr
from recsys.settings import parse
from recsys.tables import manifest
from tests.backbones import planted
from tests.evaluate import likes

ALONE = Ranks(0, 1, 1, torch.device("cpu"))
FORMAT = manifest.Format("thawrec-backbone", 1, "")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.write(tmp_path_factory.mktemp("planted") / "data")


def vectors_of(folder: Path) -> Vectors:
    return read_vectors(folder, pa.array(planted.USERS), pa.array(planted.WARM + planted.COLD))


def recall(vectors: Vectors, split: str, candidates: list[str]) -> float:
    """Mean Recall@20 by sorting each user's candidates."""
    splits, names = planted.rows(), planted.WARM + planted.COLD
    found = []
    for row, user in enumerate(planted.USERS):
        liked = {name: {i for u, i, label in rows if u == user and label} for name, rows in splits.items()}
        wanted = (liked[split] - liked["train"]) & {*candidates}
        scores = dict(zip(names, vectors.items @ vectors.users[row], strict=True))
        best = sorted({*candidates} - liked["train"], key=lambda item: -scores[item])[:20]
        found.append(len(wanted & {*best}) / len(wanted))
    return float(np.mean(found))


@pytest.mark.parametrize("kind", ["mf", "ngcf", "lightgcn"])
def test_it_learns_the_blocks_and_its_vectors_are_what_it_was_validated_on(
    data: Path, tmp_path: Path, kind: Kind
) -> None:
    config = planted.config(data, tmp_path, kind=kind)
    folder = train(config, ALONE)
    vectors = vectors_of(folder)
    assert not vectors.unknown_users.any() and not vectors.unknown_items.any()
    trained, scores = {*planted.rows()["train"]}, vectors.users @ vectors.items.T
    for row, user in enumerate(planted.USERS):
        unseen = [place for place, item in enumerate(planted.WARM) if (user, item, 1) not in trained]
        best = sorted(unseen, key=lambda place: -scores[row, place])[:20]
        own = {*planted.block(user)}
        assert sum(planted.WARM[place] in own for place in best) >= 16  # by chance 8: 40 of the 100 unseen are its own
    history = manifest.read(tmp_path / "backbone" / kind / "checkpoint", FORMAT)["history"]
    assert max(history) == pytest.approx(recall(vectors, "valid", planted.WARM), abs=1e-6)
    judged = ranking.evaluate(config, {kind: folder})["systems"][kind]
    for segment, names in (
        ("all", planted.WARM + planted.COLD),
        ("warm", planted.WARM),
        ("cold", planted.COLD),
    ):
        assert judged[segment]["recall@20"][0] == pytest.approx(recall(vectors, "test", names), abs=1e-6)


@pytest.mark.parametrize("kind", ["mf", "ngcf"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(data: Path, tmp_path: Path, kind: Kind) -> None:
    def files(run: str, *epochs: int) -> list[Any]:
        for each in epochs:
            folder = train(planted.config(data, tmp_path / run, kind=kind, epochs=each), ALONE)
        checkpoint = folder.parent / "checkpoint"
        found = vectors_of(folder)
        told = manifest.verify(checkpoint, FORMAT)["history"]
        return [told, load_file(checkpoint / "state.safetensors"), found.users, found.items]

    (history, state, *vectors), (same_history, same_state, *same_vectors) = files("whole", 5), files("parts", 2, 3, 5)
    assert history == same_history and len(history) == 5
    assert state.keys() == same_state.keys()
    assert all(torch.equal(value, same_state[name]) for name, value in state.items())
    assert all(np.array_equal(one, other) for one, other in zip(vectors, same_vectors, strict=True))


def test_rows_of_cold_items_are_never_touched_and_patience_ends_it(data: Path, tmp_path: Path) -> None:
    short = vectors_of(train(planted.config(data, tmp_path / "short", epochs=1), ALONE))
    long = vectors_of(train(planted.config(data, tmp_path / "long", epochs=200, patience=2), ALONE))
    warm = len(planted.WARM)
    assert np.array_equal(short.items[warm:], long.items[warm:])
    assert not (short.items[:warm] == long.items[:warm]).all(axis=1).any()
    history = manifest.read(tmp_path / "long" / "backbone" / "mf" / "checkpoint", FORMAT)["history"]
    assert len(history) < 200 and history.index(max(history)) == len(history) - 3


def test_a_checkpoint_that_is_damaged_or_of_another_training_is_refused(data: Path, tmp_path: Path) -> None:
    config = planted.config(data, tmp_path, epochs=1)
    train(config, ALONE)
    with pytest.raises(InputError, match=r"begun with backbone\.lr=0\.02, not 0\.5"):
        train(planted.config(data, tmp_path, epochs=1, lr=0.5), ALONE)
    # Killed while it was replaced: its old content has another name.
    checkpoint = tmp_path / "backbone" / "mf" / "checkpoint"
    checkpoint.rename(checkpoint.with_name(f".checkpoint.{2**31 - 1}.old"))
    with pytest.raises(InputError, match=r"begun with backbone\.lr=0\.02, not 0\.5"):
        train(planted.config(data, tmp_path, epochs=1, lr=0.5), ALONE)
    other = tmp_path / "other"
    splits = planted.rows()
    likes.write(other, {**splits, "train": splits["train"][:-9]}, planted.COLD)
    with pytest.raises(InputError, match="begun on other training rows"):
        train(planted.config(other, tmp_path, epochs=1), ALONE)
    path = tmp_path / "backbone" / "mf" / "checkpoint" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"state\.safetensors: damaged"):
        train(config, ALONE)


def test_bad_settings_and_splits_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"backbone\.kind: .*'mf', 'ngcf', 'lightgcn', 'dssm' or 'sasrec', got 'gcn'"):
        parse({"backbone": {"kind": "gcn"}})
    splits = planted.rows()
    only_cold = [row for row in splits["valid"] if row[1] in planted.COLD]
    likes.write(tmp_path / "data", {**splits, "valid": only_cold}, planted.COLD)
    with pytest.raises(InputError, match="split 'valid' has no positive row of a warm item"):
        train(planted.config(tmp_path / "data", tmp_path), ALONE)
    with pytest.raises(InputError, match="expected one rank, found 2"):
        train(planted.config(tmp_path / "data", tmp_path), Ranks(0, 2, 2, torch.device("cpu")))


def test_of_several_negatives_the_one_counts_that_the_user_ranks_highest() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.2], [0.1, 0.9], [0.2, 0.4]])
    user, positive, negatives = torch.tensor([0, 1]), torch.tensor([4, 2]), torch.tensor([[2, 3], [4, 3]])
    model = MF(len(vectors), 2)
    with torch.no_grad():
        model.rows.copy_(vectors)
    found = _loss(model, user, positive, negatives, 0.5)
    hardest = bpr(vectors[user], vectors[positive], vectors[[2, 3]])
    length = vectors[[0, 1, 4, 2, 2, 3]].square().sum() / 2
    torch.testing.assert_close(found, hardest + 0.25 * length)


def test_a_loss_that_is_not_finite_ends_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a finite one, lower the learning rate"):
        train(planted.config(data, tmp_path, lr=1e30), ALONE)


def test_the_initial_rows_are_the_seeds_and_the_graphs_alone(data: Path, tmp_path: Path) -> None:
    graph = Graph.read(data)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    found = [
        vectors_of(train(planted.config(data, tmp_path / str(k), epochs=1, seed=k // 2), ALONE)).items[graph.warm :]
        for k in range(3)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
