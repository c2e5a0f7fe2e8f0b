"""A small encoder with everything that matters of a real one, and items whose words say where their IDs lie."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from proxy.content import Content
from proxy.targets import TRAIN, Targets, divide, folds
from recsys.config_proxy import Align

WORDS = [f"word{k}" for k in range(12)]


class _Encoder(nn.Module):
    """Words to states: an embedding, a trained and a frozen layer, dropout."""

    depth, bf16, untrained = 2, False, ()

    def __init__(self, width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(len(WORDS) + 1, width)
        self.trained = nn.Linear(width, width)
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.dropout = nn.Dropout(dropout)

    def collate(self, content: Content) -> dict[str, Tensor]:
        rows = [torch.tensor([WORDS.index(word) + 1 for word in text.split()]) for text in content.texts]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"tokens": tokens, "mask": tokens > 0}

    def forward(self, inputs: dict[str, Tensor], layers: bool = False) -> SimpleNamespace:
        states = self.frozen(torch.tanh(self.trained(self.dropout(self.embed(inputs["tokens"])))))
        return SimpleNamespace(last=states, mask=inputs["mask"], layers=(states,))


def encoder(width: int = 16, dropout: float = 0.0) -> Any:
    """What `proxy.encoder.load` gives, for items of WORDS."""
    return _Encoder(width, dropout)


def options(**changes: object) -> Align:
    """Small ones."""
    small = {"tau": 1, "hidden": [16], "batch_size": 24, "epochs": 3, "lr": 0.01, "new_lr": 0.02, "recall": [1, 10]}
    return Align(**{**small, **changes})  # type: ignore[arg-type]


def items(count: int = 60, dim: int = 8, seed: int = 0, noise: float = 0.1) -> tuple[Targets, Content]:
    """Items of one to four words whose ID vectors are the sums of their words' vectors, and noise."""
    random = np.random.default_rng(seed)
    told = [list(random.choice(len(WORDS), random.integers(1, 5), replace=False)) for _ in range(count)]
    of_word = random.normal(size=(len(WORDS), dim))
    vectors = np.stack([of_word[words].sum(axis=0) for words in told]) + noise * random.normal(size=(count, dim))
    ids = pa.array([f"item {k}" for k in range(count)])
    content = Content(ids, [" ".join(WORDS[k] for k in words) for words in told], [None] * count)
    updates = random.integers(1, 90, count)
    part = divide(ids, options())
    fold = np.where(part == TRAIN, folds(ids, options()), -1).astype(np.int8)
    targets = Targets(ids, torch.from_numpy(vectors).float(), updates, part, fold, "lineage/dense/1")
    return targets, content


def frozen_vectors(content: Content) -> np.ndarray:
    """[n, 12] float64 content vectors: which words an item has."""
    return np.array([[float(word in text.split()) for word in WORDS] for text in content.texts])
