"""How PROMO's network learns beside a frozen DSSM or SASRec: each training positive, as of its second, against sampled
negatives (eq. 13), stopped by HitRate@10 among sampled negatives in split=valid.

The network is one process's, as the bases are. Tables train by torchrec's row-wise Adagrad, which moves the rows of a
batch's items and no others, all else by Adam. In memory are what `recsys.prompt.beside` holds, 4 D bytes a training
positive, 20 k bytes a pair that validation compares, and 4 bytes a pair of a judged user and an item.

Legend: E training positives, U users, I items, B pairs, D width.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys.backbones.base import Base, digest, weights_digest
from recsys.backbones.graph import Codes
from recsys.backbones.sample import negatives
from recsys.backbones.sequences import before, seconds
from recsys.backbones.valid import Validation
from recsys.config import Config
from recsys.model.prompt import Promo, PromoLoss
from recsys.prompt.beside import Beside
from recsys.tables.sharding import table_of

PAIRS = 8192
"""Scored at a time: some 16 kB each, most of it the parameters of an item's network."""


class PromptLearner:
    """A `recsys.backbones.loop.Learner`. Its epoch 0 takes no step: what validation says then, it says of the base."""

    def __init__(self, config: Config, beside: Beside) -> None:
        """Raises InputError for a file that is not as it should be, or a user of split=valid with too few items to
        sample negatives from."""
        self.options, self.evaluate, self.beside = config.prompt.tuning, config.evaluate, beside
        base, dataset = beside.base, Path(config.data.path)
        self.digest = weights_digest(base.model, digest(base.graph, base.sequences))
        self.events = base.before_events()
        self.user = np.repeat(np.arange(len(base.graph.users)), base.sequences.items.lengths)
        self.model = initial(config, beside)
        self.loss = PromoLoss(self.model, config.prompt.model)
        self.valid = Validation.read(dataset, base.graph, config.evaluate.seed)
        self.valid.require_negatives(config.evaluate)
        user, item = self.valid.candidates(config.evaluate)
        known = self.valid.row[user] > 0
        self.judged_user, self.judged_item = user[known], item[known].astype(np.int64)
        self.code, self.then = self.valid.row[self.judged_user] - 1, vectors(base, dataset, "valid")
        self.judged = beside.lists(self.code, self.judged_item, seconds(dataset, "valid", base.graph)[self.code])

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Of the tables, where there are any, and of all else."""
        tables = [parameter for name, parameter in self.model.named_parameters() if table_of(name)]
        rest = [parameter for name, parameter in self.model.named_parameters() if not table_of(name)]
        found: dict[str, torch.optim.Optimizer] = {"adam": torch.optim.Adam(rest, self.options.lr)}
        if tables:
            found["tables"] = RowWiseAdagrad(tables, lr=self.options.table_lr)
        return found

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """Of batches of training positives, each once."""
        if not epoch:
            return
        random = np.random.default_rng([self.options.seed, epoch])
        order = random.permutation(len(self.user))
        for start in range(0, len(order), self.options.batch):
            yield self._loss(order[start : start + self.options.batch], random)

    def _loss(self, event: Codes, random: np.random.Generator) -> Tensor:
        """Positives weigh as much as all of their negatives; the mean weight is 1."""
        sequences, each, device = self.beside.base.sequences, self.options.negatives, self.events.device
        others = negatives(self.beside.base.graph, np.repeat(self.user[event], each), random)
        pair = np.concatenate([event, np.repeat(event, each)])
        item = np.concatenate([sequences.items.values[event].astype(np.int64), others])
        lists = self.beside.lists(self.user[pair], item, sequences.time[pair])
        # The rows in order of their lists' lengths: see `recsys.model.prompt.ROWS`.
        order = lists.taken.sum(axis=1).argsort(kind="stable")
        pair, item, lists = pair[order], item[order], lists[order]
        given = self.beside.inputs(item, lists, self.events[torch.from_numpy(pair).to(device)])
        label = torch.from_numpy(order < len(event)).to(device).float()
        weight = torch.where(label > 0, (1 + each) / 2, (1 + each) / (2 * each))
        loss: Tensor = self.loss(given, label, weight, self.beside.cold[given.item_B])[0]
        return loss

    @torch.inference_mode()
    def measure(self) -> float:
        """HitRate@10."""
        scores = np.full((len(self.valid.task.users), len(self.beside.base.graph.items)), -np.inf, np.float32)
        scores[self.valid.row == 0] = 0
        for start in range(0, len(self.judged_item), PAIRS):
            part = slice(start, start + PAIRS)
            users = self.then[torch.from_numpy(self.code[part]).to(self.then.device)]
            given = self.beside.inputs(self.judged_item[part], self.judged[part], users)
            scores[self.judged_user[part], self.judged_item[part]] = self.model(given)[0].cpu().numpy()
        return self.valid.hit_rate_of(scores, self.evaluate)


def initial(config: Config, beside: Beside) -> Promo:
    """The network with the seed's initial weights.

    Raises:
        InputError: as `Promo`.
    """
    items, features = beside.base.items, beside.features
    with torch.random.fork_rng([]):
        torch.manual_seed(config.prompt.tuning.seed)
        made = Promo(config.prompt.model, items.shape[1], len(items), 0 if features is None else features.shape[1])
    return made.to(items.device)


def vectors(base: Base, dataset: Path, split: str) -> Tensor:
    """[U, D] of users as before their first positive row of the split."""
    return base.users(np.arange(len(base.graph.users)), before(dataset, split, base.graph, base.sequences))
