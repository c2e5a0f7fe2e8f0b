"""IDProxy's equations with numbers, the variants of its Table 1, and what they leave as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys.config import Config
from recsys.data.batch import Batch
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.model.proxies import Proxies
from recsys.model.ranker import Ranker, RankerLoss
from recsys.model.slots import IDSlot
from tests import contents, wide


def test_the_adaptor_and_the_gate_are_the_papers_equations() -> None:
    """p_raw = phi(z), r = sigma(W_g [p_c, p_raw]), p_fine = W_c p_c + r * p_raw."""
    proxies = Proxies([2, 3], 2, [2])
    with torch.no_grad():
        for parameter, values in zip(
            proxies.parameters(),
            [
                [[1.0, 0.0, -1.0], [0.5, 0.5, 0.5]],  # first layer of the adaptor, and its bias
                [0.0, -0.5],
                [[2.0, 1.0], [-1.0, 3.0]],  # last layer, without an activation, and its bias
                [0.25, -0.25],
                [[1.0, 0.0, 0.5, 0.0], [0.0, -1.0, 0.0, 0.5]],  # W_g
                [[0.0, 1.0], [1.0, 0.0]],  # W_c
            ],
            strict=True,
        ):
            parameter.copy_(torch.tensor(values))
    coarse, layers = torch.tensor([[0.6, -0.8]]), torch.tensor([[3.0, 1.0, 1.0]])
    # relu(3 - 1) = 2 and relu(2.5 - 0.5) = 2; 2 * 2 + 2 + 0.25 and -2 + 3 * 2 - 0.25
    raw = torch.tensor([[6.25, 3.75]])
    ratio = 1 / (1 + torch.exp(-torch.tensor([[0.6 + 3.125, 0.8 + 1.875]])))
    fine = torch.tensor([[-0.8, 0.6]]) + ratio * raw
    torch.testing.assert_close(proxies(coarse, layers), torch.stack([coarse, fine], 1))
    torch.testing.assert_close(proxies.fine(coarse, layers), fine)


def test_the_adaptor_alone_loses_some_of_what_it_reads_in_training() -> None:
    proxies = Proxies([2, 400], 2, [4], dropout=0.5)
    coarse, layers = torch.randn(1, 2), torch.ones(1, 400)
    seen: list[Tensor] = []
    assert proxies.adaptor is not None
    proxies.adaptor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    proxies(coarse, layers)
    assert set(seen[0].unique().tolist()) == {0.0, 2.0} and seen[0].mean().item() == pytest.approx(1.0, abs=0.3)
    assert torch.equal(proxies(coarse, layers)[:, 0], coarse)
    proxies.eval()(coarse, layers)
    assert torch.equal(seen[-1], layers)


def test_so_does_a_coarse_vector_of_another_width() -> None:
    proxies = Proxies([400], 2, [4], dropout=0.5)
    assert isinstance(proxies.project, nn.Linear)
    nn.init.ones_(proxies.project.weight)
    kept = proxies(torch.ones(1, 400))[0, 0, 0].item() / 2
    assert kept != 200 and kept == int(kept) == pytest.approx(200, abs=60)
    assert proxies.eval()(torch.ones(1, 400))[0, 0].tolist() == [400.0, 400.0]


def test_a_coarse_vector_of_another_width_is_mapped_and_zeros_stay_zero() -> None:
    proxies = Proxies([3], 2, [4])
    assert isinstance(proxies.project, nn.Linear)
    with torch.no_grad():
        proxies.project.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]))
    made = proxies(torch.tensor([[1.0, 1.0, -1.0], [0.0, 0.0, 0.0]]))
    assert made.tolist() == [[[0.0, 1.0]], [[0.0, 0.0]]]


def test_the_slot_adds_a_matrix_of_all_proxies_and_begins_with_the_id_alone() -> None:
    slot = IDSlot(2, proxies=2)
    ids, proxies = torch.tensor([[1.0, -1.0]]), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert torch.equal(slot(ids, slot.shift(proxies)), ids)
    assert slot.fuse is not None
    with torch.no_grad():
        slot.fuse.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.5, 1.0, 0.0]]))
    assert slot(ids, slot.shift(proxies)).tolist() == [[1 + 1 + 4, -1 + 1 + 3]]


VARIANTS = {"v1-v3": ("feature", False), "v4": ("feature", True), "ridge": ("slot", False), "v5": ("slot", True)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contents.home(tmp_path_factory.mktemp("proxies"))


def config(home: Path, variant: str | None = None, **changes: Any) -> Config:
    paths = {key: str(home / f"{key}.parquet") for key in ("coarse", "layers")}
    place, layers = VARIANTS[variant] if variant else ("none", True)
    return wide.config(home / "data", home / "run", model=contents.model(paths, place, layers, **changes))


def made(home: Path, variant: str | None = None, **changes: Any) -> tuple[Ranker, Batch, Encoder]:
    """A ranker with its content tables filled, and a batch with strangers, padding and empty histories."""
    configured = config(home, variant, **changes)
    encoder = fit(configured)
    torch.manual_seed(0)
    ranker = Ranker(encoder.spec, configured.model)
    paths = {key: str(home / f"{key}.parquet") for key in ("coarse", "layers")}
    with torch.no_grad():
        for name, table in contents.tables(encoder, paths).items():
            tables: Any = ranker.content[name]
            tables.embeddings[name].weight.copy_(table)
    return ranker, next(Reader(encoder, "test", 70).epoch()), encoder


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_is_the_ranker_written_out(home: Path, variant: str) -> None:
    """Tables are read once a position instead of once a distinct item, and slots are made one by one."""
    ranker, batch, _ = made(home, variant)
    arch = ranker.dense_arch
    if arch.slot.fuse is not None:
        nn.init.normal_(arch.slot.fuse.weight)
    pooled, target, history, lengths = ranker.look_up(batch)
    keys = batch.content.keys()
    rows = {key: batch.content[key].values()[batch.content_index] for key in keys}
    weights: dict[str, Tensor] = {key: ranker.content[key].embeddings[key].weight for key in keys}  # type: ignore
    vectors = [weights[key][rows[key]].float() for key in keys]
    assert arch.proxies is not None
    proxies = arch.proxies(*vectors)
    features = None
    if variant in ("v5", "ridge"):
        shift = proxies.flatten(1) @ arch.slot.fuse.weight.T  # type: ignore[union-attr]
        target, history = target + shift[:70], history + shift[70:]
    else:
        assert len(proxies) == 70, "the history shows no content"
        features = proxies
    parts = torch.split(history, lengths.tolist())
    padded = torch.stack([nn.functional.pad(part, (0, 0, 0, 6 - len(part))) for part in parts])
    labels = torch.split(batch.history_label, lengths.tolist())
    label = torch.stack([nn.functional.pad(part, (0, 6 - len(part))) for part in labels])
    expected = arch.last(arch.hidden(batch.dense, pooled, target, padded, lengths, label, features))
    torch.testing.assert_close(ranker(batch), expected)


def test_gradients_reach_what_trains_and_nothing_else(home: Path) -> None:
    for variant in VARIANTS:
        ranker, batch, _ = made(home, variant, init_std=0.5)
        if ranker.dense_arch.slot.fuse is not None:
            nn.init.normal_(ranker.dense_arch.slot.fuse.weight)
        RankerLoss(ranker)(batch)[0].backward()
        still = {name for name, p in ranker.named_parameters() if p.grad is None or not p.grad.abs().sum()}
        # A softmax is blind to what is added to all its scores.
        assert {name for name in still if "attention.score.bias" not in name} == {
            name for name, _ in ranker.named_parameters() if name.startswith("content.")
        }


def test_without_proxies_nothing_is_there(home: Path) -> None:
    ranker, batch, encoder = made(home)
    assert not encoder.spec.content and not batch.content.keys() and not len(batch.content_index)
    assert not [name for name in ranker.state_dict() if "content" in name or "slot" in name or "proxies" in name]


def test_proxies_leave_the_others_initial_values_and_begin_as_the_base(home: Path) -> None:
    base, batch, _ = made(home)
    slotted, shown, _ = made(home, "v5")
    old, new = base.dense_arch.state_dict(), slotted.dense_arch.state_dict()
    assert {name.split(".")[0] for name in new.keys() - old.keys()} == {"proxies", "slot"}
    assert all(torch.equal(old[name], new[name]) for name in old)
    slotted.bags.load_state_dict(base.bags.state_dict())
    slotted.items.load_state_dict(base.items.state_dict())
    assert torch.equal(slotted(shown), base(batch))
