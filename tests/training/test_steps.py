"""What a step does under each setting, on two ranks, against the same written out in plain PyTorch on one process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recsys.config import Config
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.distributed import process_group
from recsys.model.ranker import DenseArch
from recsys.tables.checkpoint import Progress
from recsys.train import Loop, build
from tests import live, wide
from tests.plain import Plain
from tests.ranks import run_ranks

TRAIN = {"batch_size": 16, "shuffle_rows": 64, "epochs": 1, "hide_ids": 0.2, "lr": 0.01, "decay": "constant"}
GROUPS = [
    {"pattern": "ranker.dense_arch.top.*", "optimizer": "adamw", "lr": 0.03, "weight_decay": 0.5},
    {"pattern": "*.logit.*", "optimizer": "sgd", "lr": 0.2},
    {"pattern": "*.bottom.*", "weight_decay": 0.1},
    {"pattern": "item_id", "lr": 0.2},
    {"pattern": "g*", "lr": 0.01},
]
SETTINGS: dict[str, dict[str, Any]] = {
    "clip": {"clip": 0.02},
    "accumulate": {"accumulate": 3},
    "both": {"accumulate": 2, "clip": 0.02},
    "groups": {"groups": GROUPS},
    "weight": {"weight": "importance"},
    "negatives": {"keep_negatives": 0.5},
    "cosine": {"decay": "cosine", "warmup": 0.3},
}
WORLD = 2


@dataclass
class Start:
    """The tables and the dense part's state that every training begins with."""

    tables: dict[str, Tensor]
    dense: dict[str, Tensor]


def config(home: Path, name: str) -> Config:
    return wide.config(home / "data", home / name, train={**TRAIN, **SETTINGS[name]})


def train_all(configs: dict[str, Config], start: Start) -> dict[str, tuple[live.Shards, dict[str, Tensor]]]:
    with process_group() as ranks:
        found = {}
        for name, made in configs.items():
            encoder = fit(made)
            sharded = build(made, encoder, ranks)
            live.fill(sharded, start.tables, start.dense)
            loop = Loop(made, encoder, sharded, ranks)
            loop.stretch(Progress(), loop.reader.steps)
            found[name] = live.shards(sharded)
        return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps")
    for k, file in enumerate(split_files(wide.write(folder / "data"), "train")):
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        numbers = [float((7 * row + k) % 5) / 2 for row in range(table.num_rows)]
        pq.write_table(table.append_column("importance", pa.array(numbers)), file, row_group_size=10)
    return folder


@pytest.fixture(scope="module")
def start(home: Path) -> Start:
    made = config(home, "clip")
    spec = fit(made).spec
    torch.manual_seed(7)
    tables = {each.name: torch.randn(each.capacity, 8) * 0.1 for each in [spec.item, *spec.single, *spec.multi]}
    return Start(tables, DenseArch(spec, made.model).state_dict())


@pytest.fixture(scope="module")
def trained(home: Path, start: Start) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Tables and dense part by setting."""
    results = run_ranks(WORLD, train_all, {name: config(home, name) for name in SETTINGS}, start)
    return {name: (live.whole([result[name][0] for result in results]), results[0][name][1]) for name in SETTINGS}


class Reference:
    """Ordinary tables and modules; each setting by its definition."""

    def __init__(self, made: Config, encoder: Encoder, start: Start) -> None:
        self.train = made.train
        dense = DenseArch(encoder.spec, made.model)
        dense.load_state_dict(start.dense)
        self.plain = Plain(dense, start.tables, made.train)
        named = dict(self.plain.dense.named_parameters())
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(named.values(), lr=0.01)]
        self.table_rates = dict.fromkeys(start.tables, 0.05)
        if made.train.groups:
            top = [named.pop(name) for name in list(named) if name.startswith("top.")]
            logit = [named.pop(name) for name in list(named) if name.startswith("logit.")]
            bottom = [named.pop(name) for name in list(named) if name.startswith("bottom.")]
            self.optimizers = [
                torch.optim.AdamW(top, lr=0.03, weight_decay=0.5),
                torch.optim.SGD(logit, lr=0.2),
                torch.optim.Adam(bottom, lr=0.01, weight_decay=0.1),
                torch.optim.Adam(named.values(), lr=0.01),
            ]
            self.table_rates |= {"item_id": 0.2, "gender": 0.01, "genres": 0.01}

    def run(self, readers: list[Reader], height: Callable[[int], float] = lambda step: 1.0) -> None:
        steps, share = readers[0].steps, self.train.keep_negatives
        full = [[group["lr"] for group in each.param_groups] for each in self.optimizers]
        gradients: list[list[Tensor]] = []
        for step, batches in enumerate(zip(*(each.epoch() for each in readers), strict=True)):
            losses = []
            for batch in batches:
                p = self.plain.logits(batch).sigmoid()
                # Bayes: the probability of a positive among the rows that were kept.
                p = p / (p + share * (1 - p))
                losses.append(binary_cross_entropy_with_logits(p.logit(), batch.label, batch.weight, reduction="sum"))
            parameters = list(self.plain.dense.parameters())
            self.plain.dense.zero_grad()
            (torch.stack(losses).sum() / (WORLD * self.train.batch_size)).backward()
            self.plain.move_tables({name: rate * height(step) for name, rate in self.table_rates.items()})
            gradients.append([parameter.grad.clone() for parameter in parameters])  # type: ignore[union-attr]
            if len(gradients) < self.train.accumulate and step + 1 < steps:
                continue
            mean = [torch.stack(each).mean(0) for each in zip(*gradients, strict=True)]
            norm = torch.cat([each.flatten() for each in mean]).norm()
            scale = min(1.0, self.train.clip / float(norm)) if self.train.clip else 1.0
            assert not self.train.clip or scale < 1, "the clipping is not idle"
            for parameter, gradient in zip(parameters, mean, strict=True):
                parameter.grad = gradient * scale
            for each, rates in zip(self.optimizers, full, strict=True):
                for group, rate in zip(each.param_groups, rates, strict=True):
                    group["lr"] = rate * height(step)
                each.step()
            gradients.clear()


def readers(made: Config, encoder: Encoder) -> list[Reader]:
    t = made.train
    return [
        Reader(encoder.weighted(t.weight), "train", 16, rank, WORLD, 64, hide_ids=0.2, keep_negatives=t.keep_negatives)
        for rank in range(WORLD)
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_two_ranks_do_what_plain_pytorch_does(
    home: Path, start: Start, trained: dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]], name: str
) -> None:
    made = config(home, name)
    encoder = fit(made)
    reference, shares = Reference(made, encoder, start), readers(made, encoder)
    heights = scheduled(shares[0].steps, 0.3) if name == "cosine" else [1.0] * shares[0].steps
    reference.run(shares, heights.__getitem__)
    tables, dense = trained[name]
    for table, expected in reference.plain.tables.items():
        torch.testing.assert_close(tables[table], expected.detach(), atol=2e-5, rtol=1e-4)
        assert not torch.equal(tables[table], start.tables[table])
    for parameter, expected in reference.plain.dense.named_parameters():
        if parameter == "attention.score.bias":
            continue  # a softmax is blind to it: its gradient is rounding alone, which Adam blows up
        torch.testing.assert_close(dense[parameter], expected.detach(), atol=2e-5, rtol=1e-3)
        assert not torch.equal(dense[parameter], start.dense[parameter])


def scheduled(steps: int, warmup: float) -> list[float]:
    """The heights of a warm-up over the share `warmup` of the steps and a cosine after it, by the formula."""
    found = []
    for step in range(steps):
        x = max(0.0, step / steps - warmup) / (1 - warmup)
        warm = min(1.0, (step + 1) / (warmup * steps))
        found.append(warm * float(torch.cos(torch.tensor(torch.pi * x, dtype=torch.float64)) + 1) / 2)
    return found


def test_a_rows_weight_is_the_columns(home: Path) -> None:
    files = split_files(home / "data", "train")
    column = torch.cat(
        [torch.tensor(pq.ParquetFile(file).read(["importance"])["importance"].to_pylist()) for file in files]
    )
    seen = 0
    for reader in readers(config(home, "weight"), fit(config(home, "weight"))):
        for batch in reader.epoch():
            real = batch.row_id >= 0
            assert torch.equal(batch.weight[real], column[batch.row_id[real]]) and not batch.weight[~real].any()
            seen += int(real.sum())
    assert seen == len(column) and len(column.unique()) == 5
