"""PROMO's network beside a trained base: what it reads, learns, scores and leaves; what is resumed and refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import softplus

from recsys import settings
from recsys.backbones.sample import negatives
from recsys.backbones.sequences import seconds
from recsys.config import Config, Feature
from recsys.data.schema import split_files
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.evaluate import matrix
from recsys.evaluate.vectors import read_vectors
from recsys.prompt import protocol, ranked
from recsys.prompt.beside import Beside
from recsys.prompt.network import PromptLearner, vectors
from tests.prompt.beside import ALONE, CPU, begin, config
from tools import prompt as command


@pytest.fixture(scope="module", params=["dssm", "sasrec"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return begin(tmp_path_factory.mktemp("beside"), request.param)


def other_run(made: Config, run: Path, **tuning: Any) -> Config:
    """The same base under another run, and other tuning."""
    if not run.exists():
        shutil.copytree(Path(made.run) / "backbone", run / "backbone")
    return config(Path(made.data.path), run, made.backbone.kind, **tuning)


def awake(learner: PromptLearner) -> PromptLearner:
    """With a last layer that is not zero."""
    torch.manual_seed(0)
    for parameter in learner.model.head[-1].parameters():
        nn.init.normal_(parameter)
    return learner


def test_no_list_tells_the_future_or_the_scored_user(made: Config) -> None:
    beside, dataset = Beside.read(made, CPU), Path(made.data.path)
    liked: dict[str, dict[str, int]] = {}
    for file in split_files(dataset, "train"):
        for row in pq.read_table(file, columns=["user_id", "item_id", "timestamp", "label"]).to_pylist():
            if row["label"]:
                liked.setdefault(row["item_id"], {})[row["user_id"]] = row["timestamp"]
    users, items = (pq.read_table(dataset / f"{name}s.parquet")[f"{name}_id"].to_pylist() for name in ("user", "item"))
    random, graph = np.random.default_rng(0), beside.base.graph
    user, item = (random.integers(len(ids), size=400) for ids in (graph.users, graph.items))
    second = random.integers(28, size=400)
    lists = beside.lists(user, item, second)
    assert lists.borrowed.any() and not lists.borrowed.all()
    for b in range(400):
        who, name = graph.users[int(user[b])].as_py(), graph.items[int(item[b])].as_py()
        lender = items[beside.lender[items.index(name)]]
        source = liked.get(lender if lists.borrowed[b] else name, {})
        open_to = {each for each, time in source.items() if time < second[b] and each != who}
        listed = [users[code] for code in lists.pinnacle[b] if code >= 0]
        assert len(set(listed)) == len(listed) == min(3, len(open_to)) and set(listed) <= open_to


def test_the_loss_is_the_bases_on_the_same_events_and_both_kinds_have_their_lists(made: Config) -> None:
    plain = replace(made.prompt.model, pfpe=0.0, pape=0.0)
    beside = Beside.read(made, CPU)
    learner = awake(PromptLearner(replace(made, prompt=replace(made.prompt, model=plain)), beside))
    event = np.arange(7)
    loss = learner._loss(event, np.random.default_rng(3))
    sequences, graph = beside.base.sequences, beside.base.graph
    others = negatives(graph, np.repeat(learner.user[event], 2), np.random.default_rng(3)).reshape(-1, 2)

    def logit(e: int, item: int) -> torch.Tensor:
        lists = beside.lists(learner.user[e : e + 1], np.array([item]), sequences.time[e : e + 1])
        return learner.model(beside.inputs(np.array([item]), lists, learner.events[e : e + 1]))[0][0]

    each = []
    for e in event.tolist():
        against = torch.stack([logit(e, j) for j in others[e]])
        each.append(softplus(-logit(e, int(sequences.items.values[e]))) + softplus(against).mean())
    torch.testing.assert_close(loss, torch.stack(each).mean() / 2)


def test_before_any_step_the_scores_are_the_bases(made: Config, tmp_path: Path) -> None:
    started = other_run(made, tmp_path / "run", epochs=0)
    folder = protocol.network(started, ALONE)
    beside = Beside.read(started, CPU)
    graph = beside.base.graph
    base = read_vectors(tmp_path / "run" / "backbone" / made.backbone.kind / "vectors", graph.users, graph.items)
    found = matrix.read(folder / "scores", graph.users, graph.items)
    known = ~found.unknown_users
    np.testing.assert_array_equal(found.scores[known], (base.users @ base.items.T)[known])
    told = json.loads((folder / "about.json").read_text())
    trained = json.loads((folder.parents[2] / "backbone" / made.backbone.kind / "checkpoint/manifest.json").read_text())
    assert told["hitrate@10 in split=valid"] == [max(trained["history"])] and told["best epoch"] == 0


def test_training_moves_the_network_and_not_a_bit_of_the_base(made: Config, tmp_path: Path) -> None:
    trained = other_run(made, tmp_path / "run")
    kept = tmp_path / "run" / "backbone" / made.backbone.kind / "checkpoint"
    files = {path.name: path.read_bytes() for path in kept.iterdir()}
    beside = Beside.read(trained, CPU)
    before = {name: value.clone() for name, value in beside.base.model.state_dict().items()}
    start = {name: value.clone() for name, value in PromptLearner(trained, beside).model.state_dict().items()}
    _, training = protocol.trained(trained, beside)
    assert len(training.history) == 3
    assert all(torch.equal(value, before[name]) for name, value in beside.base.model.state_dict().items())
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == files
    last = load_file(protocol.folder_of(trained) / "checkpoint" / "state.safetensors")
    assert all(not torch.equal(last[f"model.{name}"], value) for name, value in start.items())


def test_a_step_moves_the_rows_of_its_items_alone(made: Config) -> None:
    learner = awake(PromptLearner(made, Beside.read(made, CPU)))
    (table,) = learner.model.of_item.tables.parameters()  # type: ignore[union-attr]
    before = table.detach().clone()
    optimizers = learner.optimizers()
    learner._loss(np.array([0]), np.random.default_rng(0)).backward()
    for optimizer in optimizers.values():
        optimizer.step()
    taken = int(learner.beside.base.sequences.items.values[0])
    other = negatives(learner.beside.base.graph, np.repeat(learner.user[:1], 2), np.random.default_rng(0)).tolist()
    assert set((table != before).any(dim=1).nonzero()[:, 0].tolist()) == {taken, *other}


def test_every_pair_is_scored_as_of_the_users_row_in_test(made: Config) -> None:
    beside = Beside.read(made, CPU)
    learner, graph = awake(PromptLearner(made, beside)), beside.base.graph
    then, users = seconds(Path(made.data.path), "test", graph), vectors(beside.base, Path(made.data.path), "test")
    user = np.flatnonzero(then >= 0)
    found = ranked.score(learner.model, beside, user, then[user], users[torch.from_numpy(user)])
    random = np.random.default_rng(0)
    for row, item in zip(random.integers(len(user), size=60), random.integers(len(graph.items), size=60), strict=True):
        code, one = user[row : row + 1], np.array([item])
        given = beside.inputs(one, beside.lists(code, one, then[code]), users[torch.from_numpy(code)])
        assert found[row, item] == pytest.approx(learner.model(given)[0].item(), abs=1e-4)


def test_validation_compares_what_the_bases_does(made: Config) -> None:
    learner = awake(PromptLearner(made, Beside.read(made, CPU)))
    score = learner.measure()
    base, valid = learner.beside.base, learner.valid
    then = seconds(Path(made.data.path), "valid", base.graph)
    user = np.flatnonzero(then >= 0)
    users = vectors(base, Path(made.data.path), "valid")[torch.from_numpy(user)]
    everything = np.zeros((len(valid.task.users), len(base.graph.items)), np.float32)
    place = {int(code): position for position, code in enumerate(valid.row - 1)}
    scores = ranked.score(learner.model, learner.beside, user, then[user], users)
    everything[[place[int(code)] for code in user]] = scores
    assert score == valid.hit_rate_of(everything, made.evaluate) != PromptLearner(made, learner.beside).measure()


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(made: Config, tmp_path: Path) -> None:
    def states(run: str, *epochs: int) -> dict[str, torch.Tensor]:
        for each in epochs:
            asked = other_run(made, tmp_path / run, epochs=each)
            protocol.trained(asked, Beside.read(asked, CPU))
        return load_file(protocol.folder_of(asked) / "checkpoint" / "state.safetensors")

    before = torch.random.get_rng_state()
    whole, parts = states("whole", 3), states("parts", 0, 1, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert whole.keys() == parts.keys() and any(name.startswith("tables.") for name in whole)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_the_base_trained_on_starts_as_itself_and_leaves_itself(made: Config, tmp_path: Path) -> None:
    kind = made.backbone.kind
    vector_sets = []
    for run, epochs in (("none", 0), ("some", 2)):
        asked = other_run(made, tmp_path / run, epochs=epochs, patience=5)
        graph = Beside.read(asked, CPU).base.graph
        folder = protocol.finetuned(asked, ALONE)
        vector_sets.append(read_vectors(folder / "vectors", graph.users, graph.items))
        state = load_file(folder / "checkpoint" / "state.safetensors")
    base = load_file(tmp_path / "some" / "backbone" / kind / "checkpoint" / "state.safetensors")
    old = read_vectors(Path(made.run) / "backbone" / kind / "vectors", graph.users, graph.items)
    assert np.array_equal(vector_sets[0].items, old.items) and np.array_equal(vector_sets[0].users, old.users)
    assert not torch.equal(state["model.tower.rows"], base["best.tower.rows"])
    kept = load_file(Path(made.run) / "backbone" / kind / "checkpoint" / "state.safetensors")
    assert all(torch.equal(value, base[name]) for name, value in kept.items())


def test_features_stand_in_for_users(made: Config, tmp_path: Path) -> None:
    model = replace(made.prompt.model, information="both")
    asked = other_run(made, tmp_path / "run", epochs=1)
    asked = replace(asked, prompt=replace(asked.prompt, model=model))
    with pytest.raises(InputError, match="expected one of: item among them"):
        Beside.read(asked, CPU)
    rare = replace(asked, features=[Feature(name="title", of="item")])
    with pytest.raises(InputError, match="features: no value of an item's is shared by 5 items"):
        Beside.read(rare, CPU)
    asked = replace(asked, features=[Feature(name="tags", of="item", kind="multi")])
    beside = Beside.read(asked, CPU)
    assert beside.features is not None and len(beside.features) == len(beside.base.graph.items)
    assert (protocol.network(asked, ALONE) / "scores").is_dir()


def test_what_does_not_fit_is_refused(made: Config, tmp_path: Path) -> None:
    asked = other_run(made, tmp_path / "run", epochs=0)
    protocol.trained(asked, Beside.read(asked, CPU))
    other = replace(asked, prompt=replace(asked.prompt, model=replace(asked.prompt.model, last=8)))
    with pytest.raises(InputError, match=r"begun with prompt\.model\.last=4, not 8"):
        protocol.trained(other, Beside.read(other, CPU))
    with pytest.raises(InputError, match="expected one rank, found 2"):
        protocol.network(asked, Ranks(0, 2, 2, CPU))
    with pytest.raises(InputError, match="train the backbone first"):
        protocol.network(config(Path(made.data.path), tmp_path / "nothing", made.backbone.kind), ALONE)


def test_the_command(made: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = other_run(made, tmp_path / "run", epochs=1)
    settings.dump(asked, tmp_path / "config.yaml")
    command.main([str(tmp_path / "config.yaml"), "--network", "prompt.name=mine"])
    command.main([str(tmp_path / "config.yaml"), "--finetune"])
    folder = tmp_path / "run" / "prompt" / made.backbone.kind
    assert capsys.readouterr().out == f"scores: {folder}/mine/scores\nvectors: {folder}/finetuned/vectors\n"
