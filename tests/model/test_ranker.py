"""The ranker: torchrec's own crossing as reference, what the slot reaches, dropout, bfloat16, the weighted loss."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torchrec.models.dlrm import InteractionArch
from torchrec.modules.crossnet import LowRankCrossNet

from recsys.config import Model
from recsys.data.batch import Batch
from recsys.data.encode import Encoder, InputSpec, TableSpec
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.model.ranker import Crossing, DenseArch, Ranker, RankerLoss
from recsys.model.slots import IDSlot
from tests import wide

SMALL = {"dim": 8, "attention": [8], "bottom": [8], "top": [16], "cross_rank": 4}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("wide")
    return fit(wide.config(wide.write(folder / "data"), folder / "run"))


@pytest.fixture(scope="module")
def batch(encoder: Encoder) -> Batch:
    return next(Reader(encoder, "test", 32).epoch())


def ranker(encoder: Encoder, bf16: bool = False, **changes: object) -> Ranker:
    torch.manual_seed(0)
    config = Model(**{**SMALL, "init_std": 1.0, **changes})  # type: ignore[arg-type]
    return Ranker(encoder.spec, config, bf16=bf16)


def spec(dense: int = 2, history: int = 3) -> InputSpec:
    table = TableSpec("t", 9, "auto")
    return InputSpec(table, [table], [table], dense, history)


def test_dot_crossing_is_torchrecs_interaction() -> None:
    x = torch.randn(6, 5, 8)
    crossed = Crossing("dot", 5, 8, 0, 0)(x)
    reference = InteractionArch(num_sparse_features=4)(x[:, 0], x[:, 1:])
    assert crossed.shape == (6, 5 * 8 + 10)
    torch.testing.assert_close(crossed[:, :40], x.flatten(1))
    mine, theirs = crossed[:, 40:], reference[:, 8:]
    torch.testing.assert_close(mine.sort(dim=1).values, theirs.sort(dim=1).values)
    by_hand = [(x[:, i] * x[:, j]).sum(1) for i in range(5) for j in range(i + 1, 5)]
    torch.testing.assert_close(mine, torch.stack(by_hand, 1))


def test_dcn_crossing_is_dcn_v2() -> None:
    torch.manual_seed(0)
    crossing = Crossing("dcn", 3, 4, layers=2, rank=5)
    assert isinstance(crossing.cross, LowRankCrossNet) and crossing.out == 12
    x0 = torch.randn(7, 3, 4).flatten(1)
    x, net = x0, crossing.cross
    for layer in range(2):
        x = x0 * (x @ net.V_kernels[layer].T @ net.W_kernels[layer].T + net.bias[layer]) + x
    torch.testing.assert_close(crossing(x0.view(7, 3, 4)), x)


@pytest.mark.parametrize("cross", ["dot", "dcn"])
@pytest.mark.parametrize("dense", [0, 2])
@pytest.mark.parametrize("history", [0, 3])
def test_every_shape_of_input_gives_one_logit_a_row(cross: Literal["dot", "dcn"], dense: int, history: int) -> None:
    arch = DenseArch(spec(dense, history), Model(**{**SMALL, "cross": cross}))  # type: ignore[arg-type]
    out = arch(*inputs(dense))
    assert out.shape == (4,) and out.dtype == torch.float32


def inputs(dense: int = 2) -> tuple[Tensor, ...]:
    order = torch.Generator().manual_seed(3)
    lengths, labels = torch.tensor([3, 0, 2, 1]), torch.tensor([1, 0, 1, 1, 0, 1])
    floats = [torch.randn(4, width, generator=order) for width in (dense, 16, 8)]
    return (*floats, torch.randn(6, 8, generator=order), lengths, labels)


def test_the_slot_is_used_at_all_three_places(encoder: Encoder, batch: Batch) -> None:
    """A slot that doubles its vectors must do what doubled tables would, and each place must feel it."""
    model = ranker(encoder)
    seen: list[Tensor] = []

    class Doubled(nn.Module):
        def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
            seen.append(x)
            return 2 * x

    with torch.no_grad():
        plain = model(batch)
        model.dense_arch.slot = Doubled()  # type: ignore[assignment]
        doubled = model(batch)
        model.dense_arch.slot = IDSlot()
        model.items.embeddings["item_id"].weight.mul_(2)
        assert torch.equal(model(batch), doubled) and not torch.allclose(doubled, plain)
    assert sorted(len(x) for x in seen) == sorted([32, int(batch.items.lengths()[32:].sum())])


def test_gradient_reaches_crossing_query_and_history(encoder: Encoder) -> None:
    arch = DenseArch(encoder.spec, Model(**SMALL))  # type: ignore[arg-type]
    for parameter in arch.parameters():
        nn.init.normal_(parameter, std=0.5)
    arch_inputs = [torch.randn(2, 3), torch.randn(2, 5 * 8), torch.randn(2, 8), torch.randn(3, 8)]
    crossed: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        given[0].retain_grad()
        crossed.append(given[0])

    arch.crossing.register_forward_pre_hook(keep)
    target, history = (x.requires_grad_() for x in arch_inputs[2:])
    arch(*arch_inputs, torch.tensor([3, 0]), torch.tensor([1, 0, 1])).sum().backward()
    assert target.grad is not None and history.grad is not None
    assert crossed[0].grad is not None
    at_crossing = crossed[0].grad[:, 5]  # after the five bags
    torch.testing.assert_close(crossed[0][:, 5], target)
    assert at_crossing.abs().sum() > 0 and history.grad.abs().sum(1).min() > 0
    # The first row has a history: the query's part comes on top of the crossing's. The second has none.
    assert not torch.allclose(target.grad[0], at_crossing[0])
    torch.testing.assert_close(target.grad[1], at_crossing[1])


def test_history_items_and_target_share_one_table(encoder: Encoder, batch: Batch) -> None:
    model = ranker(encoder)
    model(batch).sum().backward()
    gradient = model.items.embeddings["item_id"].weight.grad
    assert gradient is not None
    touched = set(gradient.abs().sum(1).nonzero().flatten().tolist())
    assert touched == set(batch.items.values().tolist())
    assert {name for name, _ in model.named_parameters() if "item" in name} == {"items.embeddings.item_id.weight"}


def test_bags_are_means(encoder: Encoder, batch: Batch) -> None:
    model = ranker(encoder)
    pooled, *_ = model.look_up(batch)
    by_key = dict(zip(batch.sparse.keys(), pooled.split(8, dim=1), strict=True))
    for k, row in enumerate(wide.taken_apart(batch)):
        for key in ("tags", "genres"):
            weight = model.bags.embedding_bags[key].weight
            expected = weight[row[key]].mean(0) if row[key] else torch.zeros(8)
            torch.testing.assert_close(by_key[key][k], expected)


def test_a_row_scores_the_same_in_any_company(encoder: Encoder) -> None:
    model = ranker(encoder).eval()
    scores: list[dict[int, float]] = []
    with torch.no_grad():
        for size in (1, 7, 61):
            batches = Reader(encoder, "test", size).epoch()
            pairs = [(each.row_id.tolist(), model(each).tolist()) for each in batches]
            scores.append({k: s for ids, logits in pairs for k, s in zip(ids, logits, strict=True) if k >= 0})
    assert scores[0].keys() == scores[2].keys() == set(range(61))
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=1e-4, abs=1e-5)


def test_dropout_is_off_in_evaluation(encoder: Encoder, batch: Batch) -> None:
    model, plain = ranker(encoder, dropout=0.5), ranker(encoder)
    plain.load_state_dict(model.state_dict())
    assert not torch.equal(model.train()(batch), model(batch))
    assert torch.equal(model.eval()(batch), plain.eval()(batch))


def test_bfloat16_runs_and_stays_close(encoder: Encoder, batch: Batch) -> None:
    full, half = ranker(encoder, init_std=0.1), ranker(encoder, bf16=True, init_std=0.1)
    half.load_state_dict(full.state_dict())
    kinds: list[torch.dtype] = []
    half.dense_arch.top.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    exact, rough = full(batch), half(batch)
    assert kinds == [torch.bfloat16] and rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough, exact, atol=0.02, rtol=0.05)
    rough.sum().backward()
    weight = half.items.embeddings["item_id"].weight
    assert weight.grad is not None and weight.grad.dtype == torch.float32 and torch.isfinite(weight.grad).all()


def test_the_loss_is_the_weighted_sum_over_the_batch_size(encoder: Encoder) -> None:
    *_, last = Reader(encoder, "valid", 30).epoch()
    loss, (detached, logits, label, weight, row_id) = RankerLoss(ranker(encoder, init_std=0.1))(last)
    terms = [
        -math.log(1 / (1 + math.exp(-z if y else z)))
        for z, y, w in zip(logits.tolist(), label.tolist(), weight.tolist(), strict=True)
        if w
    ]
    assert len(terms) == 11 and loss.item() == pytest.approx(sum(terms) / 30, rel=1e-5)
    assert not any(x.requires_grad for x in (detached, logits)) and torch.equal(row_id, last.row_id)


def test_padding_has_no_gradient(encoder: Encoder) -> None:
    model = ranker(encoder)
    *_, last = Reader(encoder, "valid", 30).epoch()
    RankerLoss(model)(last)[0].backward()
    gradient = model.items.embeddings["item_id"].weight.grad
    assert gradient is not None and (gradient[0] == 0).all(), "padding asks for row 0, and no known item does"
