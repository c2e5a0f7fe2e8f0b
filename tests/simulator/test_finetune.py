"""The judge's tuning: packed it is the plain loss, and whatever interrupts or shares it, it comes to the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from recsys.config import Config
from recsys.config_simulator import Tune
from recsys.distributed import process_group
from recsys.errors import InputError
from simulator import finetune, judge, prompts, tuning
from simulator.finetune import Learner
from tests.ranks import run_ranks
from tests.simulator import logs
from tests.simulator.test_judge import CONTEXTS, CPU, ITEMS, PAIRS, one_by_one

TUNE: dict[str, Any] = {
    "steps": 6,
    "users": 4,
    "positives": 3,
    "lora_rank": 2,
    "lr": 0.05,
    "warmup": 2,
    "checkpoint_every": 2,
}
WEIGHTS = "adapter_model.safetensors"
DEAD = 2**31 - 1
"""No process has this number."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return logs.write(tmp_path_factory.mktemp("tune"))


def tuned(made: Config) -> dict[str, Tensor]:
    """The adapter after a tuning in this process."""
    with process_group() as ranks:
        return load_file(finetune.tune(made, ranks) / WEIGHTS)


def run_in(made: Config, run: Path) -> Config:
    return replace(made, run=str(run))


@pytest.fixture(scope="module")
def whole(home: Path, folder: Path) -> tuple[Config, dict[str, Tensor]]:
    """A tuning that nothing interrupted."""
    made = logs.config(home, folder, tune=TUNE)
    return made, tuned(made)


def plain_loss(learner: Learner, made: Config, step: int) -> Tensor:
    """One example a row, the whole head, the formula of binary cross-entropy over the two answers."""
    words = AutoTokenizer.from_pretrained(made.simulator.judge.name)
    asked, prompt = prompts.wording(words, made.simulator.prompt), made.simulator.prompt
    yes, no = asked.answers
    losses = []
    for one in learner.examples.step(step):
        told = prompts.fields(words, [learner.histories[k] for k in one.history], prompt.history_tokens)
        for item, answer in zip(one.items, one.answers, strict=True):
            [field] = prompts.fields(words, [learner.items[item]], prompt.tokens)
            ids = prompts.context(asked, told) + prompts.question(asked, field)
            logits = learner.model(torch.tensor([ids])).logits[0, -1]
            chance = torch.sigmoid(logits[yes] - logits[no])
            losses.append(-torch.log(chance if answer == 0 else 1 - chance))
    return torch.stack(losses).mean()


def gradients(learner: Learner) -> Tensor:
    return torch.cat([one.grad.flatten() for one in learner.trained.values() if one.grad is not None])


@pytest.mark.parametrize("batch", [1, 10, 1000])
def test_packed_is_the_plain_loss_and_gradient(home: Path, folder: Path, batch: int) -> None:
    made = logs.config(home, folder, tune=TUNE)
    made = replace(made, simulator=replace(made.simulator, judge=replace(made.simulator.judge, batch_size=batch)))
    with process_group() as ranks:
        learner = Learner(made, ranks)
        for parameter in learner.trained.values():  # at its beginning half of an adapter has no gradient
            torch.nn.init.normal_(parameter, std=0.2)
        expected = plain_loss(learner, made, 3)
        expected.backward()
        plain = gradients(learner)
        length = float(plain.norm())
        before = torch.cat([one.detach().flatten().clone() for one in learner.trained.values()])
        found = learner.step(3)
    assert float(found) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert length > 0.01
    torch.testing.assert_close(gradients(learner), plain * min(1.0, 1.0 / length), rtol=1e-3, atol=1e-6)
    after = torch.cat([one.detach().flatten() for one in learner.trained.values()])
    assert (after - before).abs().max() > 0.01


def test_every_linear_layer_but_the_head_learns(whole: tuple[Config, dict[str, Tensor]]) -> None:
    _, found = whole
    adapted = {name.split(".")[-3] for name in found}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(tensor.dtype == torch.float32 and tensor.abs().max() > 0 for tensor in found.values())


def test_the_loss_falls(home: Path, folder: Path) -> None:
    """On four histories, again and again."""
    made = logs.config(home, folder, tune=TUNE)
    with process_group() as ranks:
        learner = Learner(made, ranks)
        first = float(learner.step(0))
        for _ in range(40):
            last = float(learner.step(0))
    assert last < 0.7 * first


def test_a_merged_adapter_judges_as_peft_does(whole: tuple[Config, dict[str, Tensor]], folder: Path) -> None:
    made, _ = whole
    adapter = finetune.folder_of(made)
    asked = replace(made.simulator, judge=replace(made.simulator.judge, adapter=str(adapter)))
    found = judge.load(asked, CPU).score(CONTEXTS, ITEMS, PAIRS)
    by_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), str(adapter))
    expected = one_by_one(by_peft, AutoTokenizer.from_pretrained(folder), made.simulator.prompt)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(judge.load(made.simulator, CPU).score(CONTEXTS, ITEMS, PAIRS) - expected).max() > 0.05


class Killed(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize("saves", [1, 2])
def test_resumed_it_gives_the_same_bits(
    whole: tuple[Config, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    made = run_in(whole[0], tmp_path)
    save, done = tuning.save, []

    def killing(*arguments: Any) -> None:
        save(*arguments)
        done.append(0)
        if len(done) == saves:
            raise Killed

    monkeypatch.setattr(tuning, "save", killing)
    with pytest.raises(Killed):
        tuned(made)
    monkeypatch.undo()
    assert not finetune.folder_of(made).exists()
    found = tuned(made)
    assert all(torch.equal(found[name], tensor) for name, tensor in whole[1].items())
    told = [json.loads((finetune.folder_of(one) / "about.json").read_text()) for one in (made, whole[0])]
    assert told[0] == told[1] and told[0]["steps"] == 6
    assert [one.name for one in finetune.folder_of(made).parent.iterdir()] == ["adapter"]


def tuned_each(made: list[Config]) -> None:
    """One process group: a second one would read the first one's addresses from the store."""
    with process_group() as ranks:
        for one in made:
            finetune.tune(one, ranks)


def test_two_ranks_come_to_what_one_does(whole: tuple[Config, dict[str, Tensor]], tmp_path: Path) -> None:
    """Half of the users on each; a step is that of all of them. With one user a rank just goes along."""
    half = run_in(whole[0], tmp_path / "half")
    one = replace(half.simulator.tune, users=1, steps=2)
    none = run_in(replace(half, simulator=replace(half.simulator, tune=one)), tmp_path / "none")
    run_ranks(2, tuned_each, [half, none])
    alone = tuned(run_in(none, tmp_path / "alone"))
    # As a whole: where a gradient is next to nothing, Adam's first steps go by its sign, which is that of rounding.
    for made, expected, tolerance in ((half, whole[1], 0.05), (none, alone, 1e-3)):
        found = load_file(finetune.folder_of(made) / WEIGHTS)
        for name, tensor in expected.items():
            assert (found[name] - tensor).norm() <= tolerance * tensor.norm(), name


def test_it_goes_on_from_an_adapter(whole: tuple[Config, dict[str, Tensor]], tmp_path: Path) -> None:
    start = str(finetune.folder_of(whole[0]))
    still, more = ({**TUNE, "start": start, "lr": lr, "seed": 1} for lr in (0.0, 0.05))
    made = replace(whole[0], simulator=replace(whole[0].simulator, tune=Tune(**still)))
    found = tuned(run_in(made, tmp_path / "still"))
    assert found.keys() == whole[1].keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole[1].items())
    made = replace(made, simulator=replace(made.simulator, tune=Tune(**more)))
    assert not torch.equal(*(one[min(one)] for one in (tuned(run_in(made, tmp_path / "more")), whole[1])))
    made = replace(made, simulator=replace(made.simulator, tune=Tune(**{**more, "lora_rank": 3})))
    with pytest.raises(InputError, match=r"simulator\.tune\.start: .*expected an adapter of rank 3, found 2"):
        tuned(run_in(made, tmp_path / "rank"))
    made = replace(made, simulator=replace(made.simulator, tune=Tune(start=str(tmp_path / "nowhere"))))
    with pytest.raises(InputError, match=r"simulator\.tune\.start: \S+nowhere: expected an adapter_model"):
        tuned(run_in(made, tmp_path / "none"))


def test_a_tuning_that_is_done_stays_and_another_is_refused(whole: tuple[Config, dict[str, Tensor]]) -> None:
    made, before = whole
    weights = finetune.folder_of(made) / WEIGHTS
    changed = weights.stat().st_mtime_ns
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuned(made).items())
    assert weights.stat().st_mtime_ns == changed
    other = replace(made, simulator=replace(made.simulator, tune=replace(made.simulator.tune, lr=0.1)))
    with pytest.raises(InputError, match=r"adapter: this tuning was begun with simulator\.tune\.lr=0\.05, not 0\.1"):
        tuned(other)


def test_a_checkpoint_of_another_tuning_or_a_damaged_one_is_refused(
    whole: tuple[Config, dict[str, Tensor]], tmp_path: Path
) -> None:
    made = run_in(whole[0], tmp_path)
    with process_group() as ranks:
        learner = Learner(made, ranks)
        progress = tuning.Progress(tuning.identity(made)).after(float(learner.step(0)))
        tuning.save(tmp_path / "simulator" / "tuning", learner.trained, learner.adamw, progress)
    other = replace(made, simulator=replace(made.simulator, tune=replace(made.simulator.tune, seed=5)))
    with pytest.raises(InputError, match=r"tuning: this tuning was begun with simulator\.tune\.seed=0, not 5"):
        tuned(other)
    # Killed while it was replaced: its old content has another name.
    (tmp_path / "simulator" / "tuning").rename(tmp_path / "simulator" / f".tuning.{DEAD}.old")
    with pytest.raises(InputError, match=r"tuning: this tuning was begun with simulator\.tune\.seed=0, not 5"):
        tuned(other)
    state = tmp_path / "simulator" / "tuning" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-4] + b"oops")
    with pytest.raises(InputError, match=r"state\.safetensors"):
        tuned(made)
    shutil.rmtree(tmp_path / "simulator")
    tuned(made)


def test_a_loss_that_is_not_finite_ends_it(whole: tuple[Config, dict[str, Tensor]], tmp_path: Path) -> None:
    made = run_in(whole[0], tmp_path)
    wild = replace(made.simulator.tune, lr=1e30, warmup=0)
    with pytest.raises(InputError, match=r"step \d: the loss is (nan|inf): expected a lower simulator\.tune\.lr"):
        tuned(replace(made, simulator=replace(made.simulator, tune=wild)))
    assert not finetune.folder_of(made).exists()


def test_the_learning_rate_rises_and_falls() -> None:
    made = Tune(steps=14, warmup=4)
    rates = [finetune.rate(step, made) for step in range(14)]
    np.testing.assert_allclose(rates[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(rates[4:], 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, 11)[:-1]))
    assert [finetune.rate(step, replace(made, schedule="constant")) for step in (4, 9, 13)] == [1.0, 1.0, 1.0]
