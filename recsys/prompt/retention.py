"""Memory retention (PROMO's figure 5): which pinnacle feedback a model still knows as negative feedback on its items
comes in.

    <run>/prompt/<kind>/<name>/retention.parquet    system, step (negatives of each item, so far), right, kept, share,
                                                    and low, high (Wilson's interval of the share)

`right` are the pinnacle pairs that the system ranks right before the stream, `kept` those of them that it ranks right
after it, `retained` is kept / right. A pair is right that is among the best 10 of `evaluate.negatives` items sampled
for its user: a threshold on the score itself would count what a bias takes from all items alike.

The stream holds negative feedback on the pairs' items alone, by users who have given none that is positive, and is
learned from as it comes, once, each system with its own optimizer and rate: the frozen base not at all, the fine-tuned
one with all of its weights, PROMO with the network's. Losses are cross-entropies, PROMO's with L_pfpe.

Legend: P pinnacle pairs, S events of the stream, n negatives of a pair, U users, I items.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor
from torch.nn.functional import embedding, softplus

from recsys.backbones.base import after
from recsys.backbones.graph import Codes, Graph
from recsys.backbones.sample import negatives
from recsys.backbones.sequences import newest, padded
from recsys.config import Config
from recsys.config_prompt_model import Retention
from recsys.data import pinnacle
from recsys.data.feedback import NEVER
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.files import replacing
from recsys.model.prompt import PromptInputs
from recsys.prompt import protocol
from recsys.prompt.beside import Beside
from recsys.prompt.network import PAIRS, PromptLearner

FILE = "retention.parquet"
K = 10


class System(Protocol):
    """Scores users by items after all training positives, and learns from negative feedback; both by code."""

    def scores(self, user: Codes, item: Codes) -> NDArray[np.float32]:
        """[B] logits of pairs."""

    def learn(self, user: Codes, item: Codes) -> None:
        """One step on negative feedback [B]."""


class Further:
    """A trained base, whose weights all learn; at a rate of 0 it is the frozen one."""

    def __init__(self, beside: Beside, lr: float) -> None:
        self.lists, self.length = beside.base.sequences.items, beside.base.length
        self.model = copy.deepcopy(beside.base.model).requires_grad_(True)
        self.adam = torch.optim.Adam(self.model.parameters(), lr)

    def scores(self, user: Codes, item: Codes) -> NDArray[np.float32]:
        """[B]"""
        who, place = np.unique(user, return_inverse=True)
        users = after(self.model, who, self.lists.take(who), self.length)
        with torch.no_grad():
            return _products(users, self.model.items(), place, item).cpu().numpy()

    def learn(self, user: Codes, item: Codes) -> None:
        """One step, without dropout."""
        who, place = np.unique(user, return_inverse=True)
        taken = newest(self.lists.take(who), self.length)
        device = self.model.rows.device
        codes, history, last = (torch.from_numpy(each).to(device) for each in (who, padded(taken), taken.lengths))
        users = self.model.states(codes, history)[torch.arange(len(who), device=device), last]
        self.adam.zero_grad()
        softplus(_products(users, self.model.items(), place, item)).mean().backward()
        self.adam.step()


class Prompted:
    """A trained network beside the frozen base, whose weights learn."""

    def __init__(self, learner: PromptLearner) -> None:
        self.learner, self.beside = learner, learner.beside
        self.users, self.optimizers = self.beside.base.rows(), learner.optimizers()

    @torch.no_grad()
    def scores(self, user: Codes, item: Codes) -> NDArray[np.float32]:
        """[B]"""
        parts = (slice(start, start + PAIRS) for start in range(0, len(user), PAIRS))
        return torch.cat([self.learner.model(self._inputs(user[part], item[part]))[0] for part in parts]).cpu().numpy()

    def learn(self, user: Codes, item: Codes) -> None:
        """One step."""
        given = self._inputs(user, item)
        label, weight = torch.zeros_like(given.logit_B), torch.ones_like(given.logit_B)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        self.learner.loss(given, label, weight, self.beside.cold[given.item_B])[0].backward()
        for optimizer in self.optimizers.values():
            optimizer.step()

    def _inputs(self, user: Codes, item: Codes) -> PromptInputs:
        lists = self.beside.lists(user, item, np.full(len(user), NEVER))
        return self.beside.inputs(item, lists, self.users[torch.from_numpy(user).to(self.users.device)])


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pinnacle pairs, and what each is ranked against."""

    user: Codes
    """[P]"""
    item: Codes
    """[P]"""
    others: Codes
    """[P, n] items that the user has no training positive of."""

    def right(self, system: System) -> NDArray[np.bool_]:
        """[P] which the system ranks among the best `K`."""
        asked = np.concatenate([self.item[:, None], self.others], axis=1)
        scores = system.scores(np.repeat(self.user, asked.shape[1]), asked.ravel()).reshape(asked.shape)
        return (scores[:, 1:] >= scores[:, :1]).sum(axis=1) < K


def measure(config: Config, ranks: Ranks) -> Path:
    """Write the table of the base, the fine-tuned base and the config's network; returns its path.

    Raises:
        InputError: as `recsys.prompt.protocol.network`.
    """
    beside = protocol.beside(config, ranks)
    options, seed = config.prompt.retention, config.prompt.tuning.seed
    pairs = drawn(beside, options, config.evaluate.negatives, np.random.default_rng([seed, 0]))
    learner, _ = protocol.trained(config, beside)
    systems: dict[str, System] = {
        "base": Further(beside, 0.0),
        "finetuned": Further(beside, config.backbone.lr),
        "promo": Prompted(learner),
    }
    rows = [
        {"system": name, **row}
        for name, system in systems.items()
        for row in retained(system, beside, pairs, options, np.random.default_rng([seed, 1]))
    ]
    path = protocol.folder_of(config) / FILE
    with replacing(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows), partial)
    return path


def drawn(beside: Beside, options: Retention, negatives_each: int, random: np.random.Generator) -> Pairs:
    """Pairs of users and items, of all that are in the items' own pinnacle lists after training."""
    items = np.flatnonzero(beside.item >= 0)
    codes, nobody = beside.item[items].astype(np.int32), np.full(len(items), -1, np.int32)
    lists = pinnacle.lists(beside.feedback, beside.options, codes, np.full(len(items), NEVER), nobody)
    row, place = np.nonzero(lists.taken)
    some = np.sort(random.permutation(len(row))[: options.pairs])
    known = np.full(len(beside.rows), -1)
    listed = beside.user >= 0
    known[beside.user[listed]] = np.flatnonzero(listed)
    user = known[lists.pinnacle[row[some], place[some]]]
    others = negatives(beside.base.graph, np.repeat(user, negatives_each), random)
    return Pairs(user, items[row[some]], others.reshape(-1, negatives_each))


def retained(
    system: System, beside: Beside, pairs: Pairs, options: Retention, random: np.random.Generator
) -> Iterator[dict[str, int | float]]:
    """The rows of a system, as negative feedback comes in."""
    right, items = pairs.right(system), np.unique(pairs.item)
    for number in range(options.rounds + 1):
        if number:
            user, item = stream(beside.base.graph, items, options.negatives, random)
            for start in range(0, len(user), options.batch):
                system.learn(user[start : start + options.batch], item[start : start + options.batch])
        kept = int((pairs.right(system) & right).sum())
        count = int(right.sum())
        if not count:
            raise InputError(
                f"retention: none of {len(right)} pinnacle pairs is ranked among the best {K} to begin with"
            )
        low, high = binomtest(kept, count).proportion_ci(method="wilson")
        told = {"share": kept / count, "low": float(low), "high": float(high)}
        yield {"step": number * options.negatives, "right": count, "kept": kept, **told}


def stream(graph: Graph, items: Codes, each: int, random: np.random.Generator) -> tuple[Codes, Codes]:
    """Users and items [S] of `each` events an item, in random order, by users without a training positive of it."""
    item = random.permutation(np.repeat(items, each))
    user = random.integers(len(graph.users), size=len(item))
    open_ = np.arange(len(item))
    while len(open_ := open_[graph.has(user[open_], item[open_])]):
        user[open_] = random.integers(len(graph.users), size=len(open_))
    return user, item


def _products(users: Tensor, items: Tensor, user: Codes, item: Codes) -> Tensor:
    """[B] of positions among users [n, D] and codes of items [I, D]."""
    who, what = (torch.from_numpy(codes).to(users.device) for codes in (user, item))
    return (embedding(who, users) * embedding(what, items)).sum(dim=1)
