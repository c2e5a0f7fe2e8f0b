"""Per-item parameters: what a row means, and its tables on several ranks against plain PyTorch on one."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys.config import Config
from recsys.config_prompt_model import PromptModel
from recsys.config_train import Train
from recsys.data.encode import InputSpec, TableSpec
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.model.prompt import Promo, PromoLoss
from recsys.model.prompt_parameters import PromptParameters, prompt_tables
from recsys.tables.plan import make_plan
from recsys.tables.rows import Rows
from recsys.tables.sharding import Sharded, lay, table_of
from tests.model.prompted import D, N, inputs
from tests.ranks import run_ranks

TRAIN = Train(batch_size=4, lr=0.01, table_lr=0.05)
EPS = 1e-8
CASES: list[dict[str, Any]] = [
    {"parameters": "code", "sharding": "row_wise"},
    {"parameters": "code", "sharding": "auto"},
    {"parameters": "rows", "sharding": "row_wise"},
    {"parameters": "rows", "sharding": "auto"},
]


def config(**change: Any) -> PromptModel:
    return PromptModel(**{"code": 4, "hidden": 8, "last": 4, "head": [16], "noise": 0.5, **change})


def test_a_row_is_each_layers_weights_and_biases() -> None:
    """Eq. 6, at D = 4 and M = 4: rows of 20, 20 and 4 numbers around the start."""
    parameters = PromptParameters(config(parameters="rows", hidden=4), D, N)
    assert parameters.tables is not None
    tables = {name: bag.weight for name, bag in parameters.tables.embedding_bags.items()}
    with torch.no_grad():
        parameters.start.copy_(torch.arange(44.0))
        for table in tables.values():
            table.zero_()
        tables["prompt_layer_0"][3, 1] = tables["prompt_layer_1"][3, 19] = tables["prompt_last"][3, 0] = 0.5
    ((w0, b0), (w1, b1)), last = parameters(torch.tensor([3, 1]))
    assert w0[1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert b0[1].tolist() == [16, 17, 18, 19] and b1[1].tolist() == [36, 37, 38, 39] and last[1, 1] == 41
    assert w0[0, 0].tolist() == [0, 1.5, 2, 3] and b1[0].tolist() == [36, 37, 38, 39.5] and last[0, 0] == 40.5
    assert torch.equal(w1[0], w1[1])


def test_codes_and_rows_give_parameters_of_the_same_shapes() -> None:
    found = []
    for kind in ("code", "rows"):
        layers, last = PromptParameters(config(parameters=kind), D, N)(torch.tensor([1, 2, 2]))
        found.append([tuple(part.shape) for layer in layers for part in layer] + [tuple(last.shape)])
        assert torch.equal(last[1], last[2]) and not torch.equal(last[0], last[1])
    assert found[0] == found[1] == [(3, 4, 8), (3, 8), (3, 8, 4), (3, 4), (3, 4)]


def test_all_items_begin_near_one_start() -> None:
    for kind in ("code", "rows"):
        parameters = PromptParameters(PromptModel(parameters=kind), 64, 50)
        ((weight, _), _), last = parameters(torch.arange(50))
        assert weight.std() > 0.05 and weight.std(dim=0).max() < 0.03 and last.abs().max() < 0.06
        assert weight.std(dim=0).min() > 0


def test_rows_wider_than_a_table_are_refused() -> None:
    widths = [spec.dim for spec in prompt_tables(PromptModel(parameters="rows"), 64, N)]
    assert widths == [780, 832, 16]
    with pytest.raises(InputError, match="D=64 make rows of 1088 columns; expected at most 1024"):
        prompt_tables(PromptModel(parameters="rows", hidden=16), 64, N)
    assert [spec.dim for spec in prompt_tables(PromptModel(hidden=16), 64, N)] == [32]


@dataclass
class State:
    """Tables and their row-wise Adagrad sums by name, and the state of the rest."""

    tables: dict[str, Tensor]
    sums: dict[str, Tensor]
    dense: dict[str, Tensor]

    @classmethod
    def of(cls, sharded: Sharded, specs: list[TableSpec], ranks: Ranks) -> "State":
        rows = Rows(sharded, ranks)
        read = {spec.name: rows.read(spec.name, torch.arange(spec.capacity)) for spec in specs}
        dense = {
            name.split("prompt.")[1]: value.detach().clone()
            for name, value in sharded.model.state_dict().items()
            if not table_of(name)
        }
        return cls({k: vectors for k, (vectors, _) in read.items()}, {k: sums for k, (_, sums) in read.items()}, dense)


def build(made: PromptModel, ranks: Ranks, dim: int = D, capacity: int = N) -> tuple[Sharded, list[TableSpec]]:
    """A sharded loss, and its tables."""
    torch.manual_seed(0)
    prompt = Promo(made, dim, capacity, device=torch.device("meta"))
    for parameter in prompt.head[-1].parameters():
        nn.init.normal_(parameter)  # with zeros there, nothing before them would move
    loss, specs = PromoLoss(prompt, made), prompt_tables(made, dim, capacity)
    spec = InputSpec(item=TableSpec("item_id", 2, "auto"), single=specs, multi=[], dense=0, history=0)
    plan, _ = make_plan(loss, spec, Config(train=TRAIN), ranks)
    torch.manual_seed(ranks.rank)
    return lay(loss, plan, TRAIN, ranks), specs


def plan_of(sharded: Sharded) -> dict[str, str]:
    return {name: p.sharding_type for module in sharded.model.plan.plan.values() for name, p in module.items()}


def batch(rank: int) -> tuple[Any, ...]:
    """A rank's rows; both ranks name item 5."""
    label = torch.tensor([1.0, 0.0, 1.0, 0.0])
    return inputs(rank, [(1, 5, 5, 7), (5, 2, 2, 8)][rank]), label, torch.ones(4), torch.tensor([True, False] * 2)


def stepped(cases: list[PromptModel]) -> list[tuple[State, State, dict[str, str]]]:
    """Each case before and after two steps on the ranks' rows, and its plan."""
    results = []
    with process_group() as ranks:
        for made in cases:
            sharded, specs = build(made, ranks)
            before = State.of(sharded, specs, ranks)
            for _ in range(2):
                sharded.optimizer.zero_grad()
                sharded.model(*batch(ranks.rank))[0].backward()
                sharded.optimizer.step()
            results.append((before, State.of(sharded, specs, ranks), plan_of(sharded)))
    return results


def plainly(made: PromptModel, before: State) -> State:
    """The same steps on one process, over both ranks' rows, with row-wise Adagrad by hand."""
    prompt = Promo(made, D, N)
    assert prompt.of_item is not None and prompt.of_item.tables is not None
    prompt.load_state_dict(before.dense, strict=False)
    tables = {name: bag.weight for name, bag in prompt.of_item.tables.embedding_bags.items()}
    with torch.no_grad():
        for name, table in tables.items():
            table.copy_(before.tables[name])
    sums = {name: torch.zeros(N) for name in tables}
    loss = PromoLoss(prompt, made)
    adam = torch.optim.Adam([p for name, p in prompt.named_parameters() if not table_of(name)], lr=TRAIN.lr)
    for _ in range(2):
        prompt.zero_grad()
        torch.stack([loss(*batch(rank))[0] for rank in range(2)]).mean().backward()
        adam.step()
        with torch.no_grad():
            for name, table in tables.items():
                assert table.grad is not None
                sums[name] += table.grad.square().mean(1)
                table -= TRAIN.table_lr * table.grad / (sums[name].sqrt() + EPS).unsqueeze(1)
    rest = {name: value for name, value in prompt.state_dict().items() if not table_of(name)}
    return State({name: table.detach() for name, table in tables.items()}, sums, rest)


def test_two_ranks_train_as_plain_pytorch_does_and_touch_only_the_rows_named() -> None:
    cases = [config(**case) for case in CASES]
    first, second = run_ranks(2, stepped, cases)
    named = torch.zeros(N, dtype=torch.bool).index_fill_(0, torch.tensor([1, 2, 5, 7, 8]), True)
    for made, (before, after, plan), (_, mirror, _) in zip(cases, first, second, strict=True):
        expected = plainly(made, before)
        assert set(plan) == set(expected.tables)
        assert all(how == "row_wise" for how in plan.values()) or made.sharding == "auto"
        for name, table in after.tables.items():
            assert torch.equal(table, mirror.tables[name])
            assert torch.equal((table != before.tables[name]).any(1), named), f"{name}: only named rows have changed"
            torch.testing.assert_close(table, expected.tables[name], atol=1e-6, rtol=1e-4)
            torch.testing.assert_close(after.sums[name], expected.sums[name], atol=1e-9, rtol=1e-3)
        assert after.dense.keys() == expected.dense.keys()
        for name, value in after.dense.items():
            torch.testing.assert_close(value, expected.dense[name], atol=1e-6, rtol=1e-4)
            assert torch.equal(value, before.dense[name]) == (name == "of_item.start" and made.parameters == "rows")


def wide(made: PromptModel) -> tuple[dict[str, str], Tensor]:
    """The plan at the width of a real model, and a table's initial rows."""
    with process_group() as ranks:
        sharded, specs = build(made, ranks, dim=64, capacity=200)
        return plan_of(sharded), State.of(sharded, specs, ranks).tables["prompt_layer_1"]


def test_wide_rows_are_not_cut_by_columns_unasked() -> None:
    for plan, rows in run_ranks(2, wide, PromptModel(parameters="rows")):
        assert set(plan.values()) <= {"row_wise", "table_wise"} and len(plan) == 3
        assert rows.std().item() == pytest.approx(PromptModel().noise, rel=0.05)
        assert len(rows.unique(dim=0)) == 200, "no two ranks draw the same rows"
