"""LoRA fine-tuning of the judge on training interactions (ColdLLM, section 4.3.1), packed: each history is forwarded
once, with gradients, and all questions about its user against its keys and values.

    <run>/simulator/tuning/     what a killed tuning resumes from, see `simulator.tuning`
    <run>/simulator/adapter/    the adapter in PEFT's form, and about.json

The loss is the binary cross-entropy of the two answers' logits, float32, its mean over all questions of a step. Every
rank of a job draws the same examples by the seed and takes its share of the users; gradients are summed over the ranks.
On a CPU with one number of threads the same seed gives the same bits, resumed or not.

In memory are the texts of all warm items, the population, and the activations of one forward of `judge.batch_size`
questions (those of one history, if it has more).
"""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from recsys.config import Config
from recsys.config_simulator import Tune
from recsys.distributed import Ranks, agree, on_first, together
from recsys.errors import InputError
from recsys.files import remove, replacing, sweep
from simulator import adapters, texts, transformers_judge, tuning
from simulator.examples import Example, Examples
from simulator.packed import Packed
from simulator.population import Population
from simulator.tuning import ABOUT, Progress

KEY = "simulator.tune"
_LONGEST = 1.0
"""Length that a step's gradient is cut at: one odd history would throw a small adapter far off."""


def folder_of(config: Config) -> Path:
    """Where a run's adapter is kept."""
    return Path(config.run) / "simulator" / "adapter"


def wanted(config: Config) -> bool:
    """Whether the run's own adapter is to be used."""
    asked = config.simulator.judge
    return asked.backend == "transformers" and asked.tuned and asked.adapter is None


def tuned(config: Config) -> Config:
    """The config with the run's own adapter, if that is to be used.

    Raises:
        InputError: there is none yet.
    """
    if not wanted(config):
        return config
    folder = folder_of(config)
    if not folder.exists():
        raise InputError(f"{folder}: no adapter yet: run tools.simulate tune, or say simulator.judge.tuned=false")
    asked = replace(config.simulator.judge, adapter=str(folder))
    return replace(config, simulator=replace(config.simulator, judge=asked))


def tune(config: Config, ranks: Ranks) -> Path:
    """Tune to the last step, from the checkpoint if there is one; returns the adapter's folder. Collective.

    A tuning that is done already is left as it is.

    Raises:
        InputError: as `simulator.judge.load`, `Population.read` and `texts.read`, no user to learn from, an adapter to
            start from that is not of this model and rank, one begun with other settings, or a loss that is not finite.
    """
    folder = folder_of(config)
    begun = together(lambda: Progress(tuning.identity(config)))
    on_first(ranks, lambda: sweep(folder.parent))
    on_first(ranks, lambda: tuning.require(folder, begun.of) if folder.exists() else None)
    if folder.exists():
        return folder
    learner = together(lambda: Learner(config, ranks))
    checkpoint = folder.with_name("tuning")
    progress = together(lambda: tuning.load(checkpoint, learner.trained, learner.adamw, begun))
    progress = _run(learner, progress, checkpoint, Path(config.run) / "logs" / "tune")
    on_first(ranks, lambda: _write(folder, learner.model, config.simulator.judge.name, progress))
    on_first(ranks, lambda: remove(checkpoint))
    return folder


def _run(learner: "Learner", progress: Progress, checkpoint: Path, logs: Path) -> Progress:
    """Steps from there to the last, each logged, with a checkpoint now and then. Collective."""
    options, ranks = learner.options, learner.ranks
    log = SummaryWriter(str(logs)) if ranks.is_first else None
    bar = tqdm(
        total=options.steps, initial=progress.step, desc="tune", unit="step", disable=None if ranks.is_first else True
    )
    with bar, log or nullcontext():
        while progress.step < options.steps:
            loss = float(learner.step(progress.step))
            if not np.isfinite(loss):  # on every rank: it is that of all
                agree(ranks, f"step {progress.step}: the loss is {loss}: expected a lower {KEY}.lr")
            progress = progress.after(loss)
            bar.set_postfix(loss=f"{progress.recent:.3f}", refresh=False)
            bar.update()
            if log:
                log.add_scalar("tune/loss", loss, progress.step)
            if progress.step % options.checkpoint_every == 0 and progress.step < options.steps:
                on_first(ranks, partial(tuning.save, checkpoint, learner.trained, learner.adamw, progress))
    return progress


def _write(folder: Path, model: Any, base: str, progress: Progress) -> None:
    model.peft_config["default"].base_model_name_or_path = base  # not where it lies on this machine
    with replacing(folder) as temporary:
        model.save_pretrained(str(temporary), save_embedding_layers=False)
        told = {"of": progress.of, "steps": progress.step, "loss": progress.recent}
        (temporary / ABOUT).write_text(json.dumps(told, indent=1) + "\n")


class Learner:
    """A judge under tuning: its adapter, its optimizer and what it learns from."""

    def __init__(self, config: Config, ranks: Ranks) -> None:
        asked, self.ranks = config.simulator, ranks
        self.options = asked.tune
        dataset = Path(config.data.path)
        population = Population.read(dataset)
        self.examples = Examples(population, population.ignored(dataset), self.options, asked.prompt.history)
        warm = population.items[: population.warm]
        self.items = texts.read(dataset, asked.prompt.template, asked.prompt.tokens, warm)
        self.histories = texts.read(dataset, asked.prompt.history_template, asked.prompt.history_tokens, warm)
        self.batch = asked.judge.batch_size
        base, tokenizer, words = transformers_judge.base(asked)
        self.model = _adapted(base, self.options).to(ranks.device)
        self.packed = Packed(self.model.get_base_model(), tokenizer, words, asked.prompt)
        named = self.model.named_parameters()
        self.trained = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.adamw = torch.optim.AdamW(self.trained.values(), self.options.lr, weight_decay=0.0)

    def step(self, number: int) -> Tensor:
        """[] the loss of a step before it is taken, a mean over the questions of all ranks. Collective."""
        examples = self.examples.step(number)
        questions = sum(len(one.items) for one in examples)
        self.adamw.zero_grad()
        loss = torch.zeros((), device=self.ranks.device)
        for some in self._batches(examples[self.ranks.rank :: self.ranks.world_size]):
            part = self.loss(some) / questions
            part.backward()
            loss += part.detach()
        self._sum(loss)
        torch.nn.utils.clip_grad_norm_(self.trained.values(), _LONGEST)
        for group in self.adamw.param_groups:
            group["lr"] = self.options.lr * rate(number, self.options)
        self.adamw.step()
        return loss

    def loss(self, examples: list[Example]) -> Tensor:
        """[] the summed cross-entropy of all questions of these users, forwarded together."""
        read = self.packed.read([[self.histories[one] for one in example.history] for example in examples])
        user = np.repeat(np.arange(len(examples)), [len(example.items) for example in examples])
        asked = [self.items[one] for example in examples for one in example.items]
        answers = torch.from_numpy(np.concatenate([example.answers for example in examples]))
        return cross_entropy(self.packed.ask(read, user, asked), answers.to(self.ranks.device), reduction="sum")

    def _batches(self, examples: list[Example]) -> Iterator[list[Example]]:
        """Users whose questions are `judge.batch_size` together at most, or one user."""
        batch: list[Example] = []
        for example in examples:
            if batch and sum(len(one.items) for one in [*batch, example]) > self.batch:
                yield batch
                batch = []
            batch.append(example)
        if batch:
            yield batch

    def _sum(self, loss: Tensor) -> None:
        """Over the ranks: the loss and all gradients, which are few, in one go."""
        gradients = []
        for parameter in self.trained.values():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(parameter.grad)
        flat = torch.cat([loss.view(1), *(one.flatten() for one in gradients)])
        dist.all_reduce(flat)
        parts = flat.split([1, *(one.numel() for one in gradients)])
        for mine, whole in zip([loss, *gradients], parts, strict=True):
            mine.copy_(whole.view_as(mine))


def rate(step: int, options: Tune) -> float:
    """The learning rate of a step, counted from 0, as a share of the highest."""
    if step < options.warmup:
        return (step + 1) / (options.warmup + 1)
    if options.schedule == "constant":
        return 1.0
    done = (step - options.warmup) / max(options.steps - options.warmup, 1)
    return float(0.5 * (1 + np.cos(np.pi * done)))


def _adapted(model: Any, options: Tune) -> Any:
    if options.start is None:
        return adapters.fresh(model, options.lora_rank, options.seed)
    adapted = adapters.attached(model, Path(options.start), f"{KEY}.start", trained=True)
    rank = adapted.peft_config["default"].r
    if rank != options.lora_rank:
        raise InputError(f"{KEY}.start: {options.start}: expected an adapter of rank {options.lora_rank}, found {rank}")
    return adapted
