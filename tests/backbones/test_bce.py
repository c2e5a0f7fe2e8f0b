"""DSSM and SASRec on a circle of items: what is learned, what no leak can tell, what is resumed and refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from recsys.backbones import sequences
from recsys.backbones.base import Base, initial
from recsys.backbones.bce import SequenceLearner, bce
from recsys.backbones.graph import Graph
from recsys.backbones.loop import fit
from recsys.backbones.sequences import Sequences, batches
from recsys.backbones.train import train
from recsys.backbones.valid import Validation
from recsys.config_backbone import Kind
from recsys.data.jagged import Jagged
from recsys.data.splits import Rows
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.evaluate import ranking
from recsys.evaluate.positives import index
from recsys.evaluate.vectors import read_vectors
from recsys.settings import parse
from recsys.tables import manifest
from tests.backbones import planted, walks

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, 1, CPU)
FORMAT = manifest.Format("thawrec-backbone", 1, "")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walks.write(tmp_path_factory.mktemp("walks") / "data", walks.rows())


@pytest.mark.parametrize("kind", ["dssm", "sasrec"])
def test_the_loss_is_the_formula_event_by_event(data: Path, kind: Kind) -> None:
    options = walks.config(data, data, kind).backbone
    graph = Graph.read(data)
    model = initial(graph, options, CPU).tower.eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    batch = next(batches(Sequences.read(data, graph), 8, 5, np.random.default_rng(0)))
    others = torch.randint(len(graph.items), (len(batch.item), 3), generator=torch.Generator().manual_seed(0))
    total = 0.0
    for event, (row, known, item) in enumerate(zip(batch.row, batch.known, batch.item, strict=True)):
        own = torch.from_numpy(batch.history[row : row + 1, :known])
        user = model.states(torch.from_numpy(batch.user[row : row + 1]), own)[0, -1]
        yes = torch.sigmoid(user @ model.items()[item])
        no = torch.sigmoid(model.items()[others[event]] @ user)
        total += (-yes.log() - (1 - no).log().mean()).item()
    assert bce(model, batch, others).item() == pytest.approx(total / len(batch.item), rel=1e-4)


def test_what_serves_is_the_moving_average_of_the_weights(data: Path) -> None:
    config = walks.config(data, data, "sasrec", average=0.7)
    graph = Graph.read(data)
    learner = SequenceLearner(config, graph, Validation.read(data, graph, 0), CPU)
    expected = None
    for _ in learner.losses(0):
        if expected is not None:
            torch.testing.assert_close(learner.model.served.rows, expected)
        with torch.no_grad():
            rows = learner.model.tower.rows.normal_()
        expected = rows.clone() if expected is None else 0.7 * expected + 0.3 * rows
    torch.testing.assert_close(learner.model.served.rows, expected)
    assert np.array_equal(learner.vectors("valid")[1], learner.model.served.rows.numpy())


@pytest.mark.parametrize("kind", ["dssm", "sasrec"])
def test_it_learns_the_circle_and_its_vectors_are_what_serves(data: Path, tmp_path: Path, kind: Kind) -> None:
    config = walks.config(data, tmp_path, kind)
    folder = train(config, ALONE)
    found = ranking.evaluate(config, {kind: folder})["systems"][kind]["all"]
    assert found["hitrate@2/10"][0] > 0.35  # by chance 2 / 11
    base = Base.read(config, CPU)
    vectors = read_vectors(folder, base.graph.users, base.graph.items)
    assert np.array_equal(vectors.items, base.items.numpy())
    known = sequences.before(data, "test", base.graph, base.sequences)
    assert np.array_equal(vectors.users, base.users(np.arange(len(base.graph.users)), known).numpy())
    assert not any(weight.requires_grad for weight in base.model.parameters())


@pytest.mark.parametrize("kind", ["dssm", "sasrec"])
def test_a_base_knows_a_user_at_any_time(data: Path, tmp_path: Path, kind: Kind) -> None:
    config = walks.config(data, tmp_path, kind, epochs=2, history=50)
    train(config, ALONE)
    base = Base.read(config, CPU)
    user = np.repeat(np.arange(len(base.graph.users)), base.sequences.items.lengths)
    start, known = base.sequences.items.offsets[user], base.sequences.known
    lists = [base.sequences.items.values[one : one + many] for one, many in zip(start, known, strict=True)]
    histories = Jagged(np.concatenate(lists), np.concatenate([[0], np.cumsum(known)]))
    torch.testing.assert_close(base.before_events(), base.users(user, histories))
    everything = base.users(np.arange(len(base.graph.users)), base.sequences.items)
    weight = torch.ones(16, requires_grad=True)
    (everything * base.items[0] * weight).sum().backward()  # what is built on the base trains, the base does not
    assert weight.grad is not None and weight.grad.any() and not everything.requires_grad
    assert torch.equal(base.rows(), everything) and base.rows().shape[1] == base.items.shape[1] == 16
    with pytest.raises(InputError, match=r"backbone\.kind=mf has one vector a user: expected one of dssm, sasrec"):
        Base.read(planted.config(data, tmp_path), CPU)
    with pytest.raises(InputError, match="no checkpoint: train the backbone first"):
        Base.read(walks.config(data, tmp_path / "other", kind), CPU)


def pairs() -> Rows:
    """Users take random pairs of 120 items, both of a pair in one second: nothing else tells one from the other."""
    random = np.random.default_rng(0)
    first = np.concatenate([random.permutation(60)[:7] for _ in range(200)])
    item = np.stack([2 * first, 2 * first + 1], axis=1).ravel()
    user, time = np.repeat(np.arange(200), 14), np.tile(np.repeat(np.arange(7), 2), 200)
    label = np.ones(len(item), np.int8)
    return Rows(user=user.astype(np.int32), item=item.astype(np.int32), time=time, label=label, items=120)


def test_who_knows_the_same_second_knows_the_answer_and_the_pipeline_does_not(tmp_path: Path) -> None:
    config = walks.config(walks.write(tmp_path / "data", pairs()), tmp_path / "run", "sasrec", epochs=8, batch=32)
    config = replace(config, evaluate=replace(config.evaluate, negatives=100))
    graph = Graph.read(Path(config.data.path))
    valid = Validation.read(Path(config.data.path), graph, 0)
    ours, leak = (SequenceLearner(config, graph, valid, CPU) for _ in range(2))
    # Planted: an event knows all before it in the file, and the held-out one the other item of its pair.
    lists = leak.sequences.items
    place = np.arange(len(lists.values)) - np.repeat(lists.offsets[:-1], lists.lengths)
    leak.sequences = Sequences(lists, place, leak.sequences.time)
    target = graph.items.take(valid.task.positives.values[index("user_id", graph.users).rows(valid.task.users) - 1])
    twins = pa.array([f"i{int(item[1:]) ^ 1}" for item in target.to_pylist()])
    leak.known["valid"] = told(leak.known["valid"], index("item_id", graph.items).rows(twins) - 1)
    fit(ours, config.backbone, tmp_path / "ours")
    fit(leak, config.backbone, tmp_path / "leak")
    assert ours.measure() < 0.2  # by chance 10 / 101
    assert leak.measure() > 0.95


def told(lists: Jagged, more: np.ndarray) -> Jagged:
    """Each list with one more item at its end."""
    return Jagged(np.insert(lists.values, lists.offsets[1:], more), lists.offsets + np.arange(len(lists.offsets)))


@pytest.mark.parametrize("kind", ["dssm", "sasrec"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(data: Path, tmp_path: Path, kind: Kind) -> None:
    def files(run: str, *epochs: int) -> list[Any]:
        for each in epochs:
            config = walks.config(data, tmp_path / run, kind, epochs=each, dropout=0.3)
            folder = train(config, ALONE)
        checkpoint = folder.parent / "checkpoint"
        found = read_vectors(folder, Graph.read(data).users, Graph.read(data).items)
        told = manifest.verify(checkpoint, FORMAT)["history"]
        return [told, load_file(checkpoint / "state.safetensors"), found.users, found.items]

    before = torch.random.get_rng_state()
    (history, state, *vectors), (same_history, same_state, *same_vectors) = files("whole", 5), files("parts", 2, 3, 5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert history == same_history and len(history) == 5
    assert state.keys() == same_state.keys()
    assert all(torch.equal(value, same_state[name]) for name, value in state.items())
    assert all(np.array_equal(one, other) for one, other in zip(vectors, same_vectors, strict=True))


def test_bad_settings_and_data_are_one_clear_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*backbone[^\n]*heads: expected a divisor of width 64, got 3$"):
        parse({"backbone": {"kind": "sasrec", "heads": 3}})
    with pytest.raises(InputError, match=r"evaluate\.negatives asks for 30"):
        config = walks.config(data, tmp_path, "sasrec")
        train(replace(config, evaluate=replace(config.evaluate, negatives=30)), ALONE)
    bare = planted.write(tmp_path / "bare")
    with pytest.raises(InputError, match=r"expected columns .*; 'history' is missing"):
        train(walks.config(bare, tmp_path, "dssm"), ALONE)
    train(walks.config(data, tmp_path / "run", "dssm", epochs=1), ALONE)
    with pytest.raises(InputError, match=r"begun with backbone\.history=8, not 9"):
        train(walks.config(data, tmp_path / "run", "dssm", epochs=1, history=9), ALONE)
