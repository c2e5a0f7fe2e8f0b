"""PROMO's network and head: equations 7 and 10 written out, the zero start, and what moves and what does not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys.config_prompt_model import PromptModel
from recsys.errors import InputError
from recsys.model.prompt import Prompt, PromptInputs, PromptLoss, encode, size
from tests.model.prompted import D, F, N, inputs

CONFIG = PromptModel(code=4, hidden=8, last=4, head=[6], noise=0.5)
VARIANTS: list[dict[str, Any]] = [
    {"parameters": "code"},
    {"parameters": "rows"},
    {"network": "shared"},
    {"network": "none"},
    {"information": "ids"},
    {"information": "features", "parameters": "rows"},
    {"information": "both", "network": "shared"},
    {"information": "both", "network": "none"},
]
variants = pytest.mark.parametrize("change", VARIANTS, ids=lambda change: " ".join(change.values()))


def made(awake: bool = True, **change: Any) -> Prompt:
    """A prompt; `awake`: with a last layer that is not zero."""
    torch.manual_seed(0)
    prompt = Prompt(replace(CONFIG, **change), D, N, features=F)
    if awake:
        for parameter in prompt.head[-1].parameters():
            nn.init.normal_(parameter)
    return prompt


def by_hand(prompt: Prompt, given: PromptInputs, b: int) -> Tensor:
    """A row's logit, from users one by one."""
    read = list(given.pos_BKD[b][given.pos_mask_BK[b]])
    if prompt.information != "pinnacle":
        read = [] if prompt.information == "features" else [given.h_BD[b]]
        if prompt.describe is not None and given.features_BF is not None:
            read.append(prompt.describe.weight @ given.features_BF[b] + prompt.describe.bias)
    parts = [given.h_BD[b], sum(read, torch.zeros(D)) / max(len(read), 1)]
    if prompt.of_item is not None:
        layers, last = prompt.of_item(given.item_B)
        outputs = []
        for user in read:
            for weight, bias in layers:
                user = torch.tanh(weight[b] @ user + bias[b])
            outputs.append(user)
        parts += [sum(outputs, torch.zeros(D)) / max(len(outputs), 1), last[b]]
    return given.logit_B[b] + given.user_BD[b] @ prompt.head(torch.cat(parts))


@variants
def test_a_row_is_scored_as_written_out_user_by_user(change: dict[str, Any]) -> None:
    prompt, given = made(**change), inputs()
    logit, _ = prompt(given)
    torch.testing.assert_close(logit, torch.stack([by_hand(prompt, given, b) for b in range(4)]))


def test_the_network_by_hand() -> None:
    """Eq. 7: 1 user, layers 2 -> 1 -> 2."""
    layers = [
        (torch.tensor([[[2.0, -1.0]]]), torch.tensor([[0.5]])),
        (torch.tensor([[[1.0], [-3.0]]]), torch.tensor([[0.0, 1.0]])),
    ]
    hidden = torch.tanh(torch.tensor(2 * 0.3 - 0.1 + 0.5))
    expected = torch.tanh(torch.stack([hidden, 1 - 3 * hidden]))
    torch.testing.assert_close(encode(torch.tensor([[[0.3, 0.1]]]), layers)[0, 0], expected)


@variants
def test_the_first_scores_are_the_bases_to_the_bit(change: dict[str, Any]) -> None:
    given = inputs()
    assert torch.equal(made(awake=False, **change)(given)[0], given.logit_B)


def test_every_parameter_has_a_gradient_and_none_is_asked_of_the_base() -> None:
    """From the second step on: under the zero layer nothing but it moves by L_rec."""
    for change in VARIANTS:
        config = replace(CONFIG, **change)
        prompt, given = made(**change), inputs()
        label, weight, cold = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.ones(4), torch.tensor([True, False] * 2)
        PromptLoss(prompt, config)(given, label, weight, cold)[0].backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in prompt.parameters())
        assert not any(value.requires_grad for value in vars(given).values())


def test_the_loss_is_equation_13_and_padding_has_no_part_in_it() -> None:
    config = replace(CONFIG, pfpe=0.3, pape=0.7)
    prompt, given = made(), inputs()
    label, weight, cold = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 1.0, 0.0]), given.item_B == 1
    loss, (rec, apart, fair, logit) = PromptLoss(prompt, config)(given, label, weight, cold)
    logits, each = prompt(given)
    p = logits.sigmoid()
    torch.testing.assert_close(rec, -(p[0].log() + (1 - p[1]).log() + p[2].log()) / 4)
    torch.testing.assert_close(apart, (each[0] + each[1]) / 4)
    torch.testing.assert_close(fair, torch.log(1 + torch.exp(logits[1] - logits[0])))
    torch.testing.assert_close(loss, rec + 0.3 * apart + 0.7 * fair)
    assert torch.equal(logit, logits) and not any(part.requires_grad for part in (rec, apart, fair, logit))


def test_l_pfpe_is_of_the_networks_outputs() -> None:
    prompt, given = made(), inputs()
    assert prompt.of_item is not None
    layers, _ = prompt.of_item(given.item_B)
    apart = (encode(given.pos_BKD, layers)[1, :1] - encode(given.neg_BKD, layers)[1]).abs().mean()
    assert prompt(given)[1][1].item() == pytest.approx(torch.log(1 + torch.exp(-apart)).item())
    assert made(network="none")(given)[1].tolist() == [0.0] * 4


@variants
def test_the_order_of_a_list_and_what_pads_it_change_nothing(change: dict[str, Any]) -> None:
    prompt, given = made(**change), inputs()
    order = torch.tensor([2, 0, 1])
    turned = replace(
        given,
        pos_BKD=given.pos_BKD.masked_fill(~given.pos_mask_BK.unsqueeze(2), 9.0)[:, order],
        pos_mask_BK=given.pos_mask_BK[:, order],
        neg_BKD=given.neg_BKD.masked_fill(~given.neg_mask_BK.unsqueeze(2), -9.0)[:, order],
        neg_mask_BK=given.neg_mask_BK[:, order],
    )
    for found, expected in zip(prompt(turned), prompt(given), strict=True):
        torch.testing.assert_close(found, expected)


@variants
def test_a_list_of_padding_is_an_empty_one(change: dict[str, Any]) -> None:
    prompt, given = made(**change), inputs()
    nobody = torch.zeros(4, 3, dtype=torch.bool)
    padded = replace(given, pos_mask_BK=nobody, neg_mask_BK=nobody)
    empty = replace(
        padded,
        pos_BKD=given.pos_BKD[:, :0],
        neg_BKD=given.neg_BKD[:, :0],
        pos_mask_BK=nobody[:, :0],
        neg_mask_BK=nobody[:, :0],
    )
    for found, expected in zip(prompt(padded), prompt(empty), strict=True):
        torch.testing.assert_close(found, expected)
    logit, apart = prompt(padded)
    assert not apart.any() and not torch.equal(logit, given.logit_B), "the item's term rests on the rest"


def test_without_a_network_of_their_own_items_do_not_differ() -> None:
    given = inputs()
    others = replace(given, item_B=torch.tensor([2, 3, 4, 6]))
    for change in VARIANTS:
        prompt = made(**change)
        alike = torch.equal(prompt(given)[0], prompt(others)[0])
        assert alike == (change.get("network", "item") != "item")
        assert (prompt.of_item is not None and prompt.of_item.tables is not None) != alike


def test_what_is_tuned_is_counted() -> None:
    """64-12-64 with a last prompt of 16, the numbers of the paper's section on complexity at this size."""
    base = nn.Embedding(100, 640)
    head = (3 * 64 + 16) * 64 + 64 + 64 * 64 + 64
    start = 12 * 65 + 64 * 13 + 16
    with torch.device("meta"):
        rows = size(Prompt(PromptModel(parameters="rows"), 64, 1000), base)
        code = size(Prompt(PromptModel(), 64, 1000), base)
        shared = size(Prompt(PromptModel(network="shared"), 64, 1000), base)
        none = size(Prompt(PromptModel(network="none"), 64, 1000), base)
    assert rows.item_bytes == 4 * start == 6512 and rows.tuned == 1000 * start + head
    assert code.item_bytes == 128 and code.tuned == 1000 * 32 + 32 * start + start + head
    assert shared.item_bytes == none.item_bytes == 0 and shared.tuned == start + head
    assert none.tuned == 2 * 64 * 64 + 64 + 64 * 64 + 64
    assert none.share == none.tuned / 64000


def test_features_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="information=both: the items have no features"):
        Prompt(replace(CONFIG, information="both"), D, N)
