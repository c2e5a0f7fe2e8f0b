"""DeepFM in plain PyTorch on the ranker's own batches: first order, factorisation machine and MLP over shared vectors.

The history is two fields, the liked and the other items, each mean-pooled through the item table; how many there are of
each stands beside the dense features, since a mean forgets it. Notation: B batch, F fields, D width.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from recsys.data.batch import HISTORY, Batch
from recsys.data.encode import Encoder
from recsys.data.reader import Reader
from recsys.rivals.rows import Scored

MOST_EPOCHS, EVALS, PATIENCE = 15, 2, 4
"""Epochs at most, validations an epoch, and validations without a better AUC before it stops."""

PAST = ("history_liked", "history_other")


class DeepFM(nn.Module):
    """Batches in, [B] logits out. Every field has a table of vectors of width D and one of first-order weights."""

    def __init__(self, encoder: Encoder, dim: int, hidden: list[int], dropout: float, shared: bool) -> None:
        """`shared`: the two history fields read their vectors from the item table, not from tables of their own."""
        super().__init__()
        spec = encoder.spec
        self.item, self.labelled = spec.item.name, encoder.config.model.history_labels
        self.shared, self.past = shared, PAST if spec.history else ()
        self.keys = [table.name for table in [*spec.single, *spec.multi]]
        sizes = {table.name: table.capacity for table in [*spec.single, *spec.multi, spec.item]}
        self.vectors, self.weights = nn.ModuleDict(), nn.ModuleDict()
        for name, size in [*sizes.items(), *((side, spec.item.capacity) for side in self.past)]:
            self.weights[f"of_{name}"] = _table(size, 1)
            if name in sizes or not shared:
                self.vectors[f"of_{name}"] = _table(size, dim)
        self.dense = nn.Linear(spec.dense + 2, dim + 1)
        fields = len(sizes) + len(self.past) + 1
        layers: list[nn.Module] = []
        for width_in, width_out in zip([fields * dim, *hidden], hidden, strict=False):
            layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(dropout)]
        self.deep = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(self, batch: Batch) -> Tensor:
        """[B] float32 logits; those of padding rows mean nothing."""
        bags = [(key, batch.sparse[key].values(), batch.sparse[key].lengths()) for key in self.keys]
        target = batch.items[self.item]
        bags.append((self.item, target.values(), target.lengths()))
        counts = torch.zeros(len(batch.label), 2, device=batch.label.device)
        if self.past:
            history = batch.items[HISTORY]
            row = torch.repeat_interleave(history.lengths())
            liked = batch.history_label == 1 if self.labelled else torch.ones_like(row, dtype=torch.bool)
            for side, chosen in enumerate((liked, ~liked)):
                lengths = torch.bincount(row[chosen], minlength=len(batch.label))
                bags.append((self.past[side], history.values()[chosen], lengths))
                counts[:, side] = torch.log1p(lengths.float())
        dense = self.dense(torch.cat([batch.dense, counts], dim=1))
        first_B, vectors = dense[:, -1], [dense[:, :-1]]
        for name, rows, lengths in bags:
            offsets = nn.functional.pad(lengths.cumsum(0), (1, 0)).long()
            first_B = first_B + self.weights[f"of_{name}"](rows, offsets).squeeze(1)
            vectors.append(
                self.vectors[f"of_{self.item if self.shared and name in self.past else name}"](rows, offsets)
            )
        x_BFD = torch.stack(vectors, dim=1)
        pairs_B = 0.5 * (x_BFD.sum(1).square() - x_BFD.square().sum(1)).sum(1)
        return first_B + pairs_B + self.deep(x_BFD.flatten(1)).squeeze(1)


def _table(rows: int, width: int) -> nn.EmbeddingBag:
    table = nn.EmbeddingBag(rows, width, mode="mean", include_last_offset=True)
    nn.init.normal_(table.weight, std=0.01)
    return table


@dataclass(frozen=True)
class Trained:
    """A trained DeepFM."""

    model: DeepFM
    encoder: Encoder
    valid_auc: float

    def scores(self, split: str) -> Iterator[Scored]:
        """Row ids and probabilities of a split, in row id order."""
        for row_id, _, probability in _score(self.model, self.encoder, split):
            yield row_id, probability


def train(encoder: Encoder, params: dict[str, Any], seed: int) -> Trained:
    """Train until validation AUC stops rising; the best weights are kept.

    params: dim, hidden, dropout, shared, optimizer (["adam" or "adagrad", learning rate]), table_decay (L2 on the
    tables), hide_ids, batch_size.
    """
    torch.manual_seed(seed)
    model = DeepFM(encoder, params["dim"], params["hidden"], params["dropout"], params["shared"])
    tables = [*model.vectors.parameters(), *model.weights.parameters()]
    rest = [*model.dense.parameters(), *model.deep.parameters()]
    name, lr = params["optimizer"]
    kind = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}[name]
    optimizer = kind([{"params": tables, "weight_decay": params["table_decay"]}, {"params": rest}], lr=lr)
    reader = Reader(
        encoder,
        "train",
        params["batch_size"],
        shuffle=encoder.config.train.shuffle_rows,
        seed=seed,
        hide_ids=params["hide_ids"],
    )
    best, best_auc, worse = copy.deepcopy(model.state_dict()), 0.0, 0
    every = -(-reader.steps // EVALS)
    for epoch in range(MOST_EPOCHS):
        for step, batch in enumerate(reader.epoch(epoch), start=1):
            model.train()
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(batch), batch.label, batch.weight).backward()
            optimizer.step()
            if step % every and step != reader.steps:
                continue
            auc = _valid_auc(model, encoder)
            worse = 0 if auc > best_auc else worse + 1
            if auc > best_auc:
                best, best_auc = copy.deepcopy(model.state_dict()), auc
        if worse >= PATIENCE:
            break
    model.load_state_dict(best)
    return Trained(model, encoder, best_auc)


def _valid_auc(model: DeepFM, encoder: Encoder) -> float:
    _, label, probability = (np.concatenate(part) for part in zip(*_score(model, encoder, "valid"), strict=True))
    return float(roc_auc_score(label, probability))


def _score(model: DeepFM, encoder: Encoder, split: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Row ids, labels and probabilities (float64) of a split, batch by batch."""
    model.eval()
    with torch.no_grad():
        for batch in Reader(encoder, split, encoder.config.evaluate.batch_size).epoch():
            real = batch.weight > 0
            yield batch.row_id[real].numpy(), batch.label[real].numpy(), model(batch).double().sigmoid()[real].numpy()
