"""The ranker's training in plain PyTorch on one process: ordinary tables, row-wise Adagrad by hand, Adam.

It takes whole batches, those of all ranks together, and no code of ours but the dense part.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from recsys.config_train import Train
from recsys.data.batch import Batch
from recsys.model.ranker import DenseArch

EPS = 1e-8


@dataclass
class Plain:
    """Tables by name, [N, D] each, with their row-wise Adagrad sums [c * N]: of each of the c `pieces` that their
    columns are cut into (one where none are named), one piece behind the other. `content`: frozen tables."""

    dense: DenseArch
    tables: dict[str, Tensor]
    config: Train
    pieces: dict[str, int] = field(default_factory=dict)
    content: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.dense = copy.deepcopy(self.dense)
        self.tables = {name: nn.Parameter(table.clone()) for name, table in self.tables.items()}
        self.sums = {name: torch.zeros(len(t) * self.pieces.get(name, 1)) for name, t in self.tables.items()}
        self.adam = torch.optim.Adam(self.dense.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def logits(self, batch: Batch) -> Tensor:
        """[B]."""
        bags = []
        for key in batch.sparse.keys():  # noqa: SIM118 - not a dict
            jagged = batch.sparse[key]
            parts = torch.split(self.tables[key][jagged.values()], jagged.lengths().tolist())
            bags.append(torch.stack([part.mean(0) if len(part) else part.sum(0) for part in parts]))
        items = self.tables["item_id"]
        target, history = batch.items["item_id"], batch.items["history"]
        # At every position anew, not once a distinct item.
        rows = {key: batch.content[key].values()[batch.content_index] for key in self.content}
        content = [table[rows[key]].float() for key, table in self.content.items()]
        return self.dense(
            batch.dense,
            torch.cat(bags, 1),
            items[target.values()],
            items[history.values()],
            history.lengths(),
            batch.history_label,
            *([torch.arange(len(content[0])), *content] if content else []),
        )

    def step(self, batches: Iterable[Batch], rates: tuple[float, float] | None = None) -> None:
        """One step on the union of the ranks' batches, with these rates of the dense part and of the tables."""
        dense_rate, table_rate = rates or (self.config.lr, self.config.table_lr)
        self.adam.param_groups[0]["lr"] = dense_rate
        total, rows = torch.zeros(()), 0
        for batch in batches:
            losses = nn.functional.binary_cross_entropy_with_logits(self.logits(batch), batch.label, reduction="none")
            total = total + (losses * batch.weight).sum()
            rows += len(batch.label)
        self.adam.zero_grad()
        (total / rows).backward()
        self.adam.step()
        self.move_tables({name: table_rate for name in self.tables})

    def move_tables(self, rates: dict[str, float]) -> None:
        """Row-wise Adagrad by the tables' gradients, which are then forgotten."""
        with torch.no_grad():
            for name, table in self.tables.items():
                gradient, table.grad = table.grad, None
                assert gradient is not None
                pieces = self.pieces.get(name, 1)
                sums = self.sums[name].view(pieces, -1)
                for k, (part, moved) in enumerate(zip(gradient.chunk(pieces, 1), table.chunk(pieces, 1), strict=True)):
                    sums[k] += part.square().mean(1)
                    moved -= rates[name] * part / (sums[k].sqrt() + EPS).unsqueeze(1)
