"""PROMO's network and head: equations 7 and 10 written out, the zero start, and what moves and what does not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from recsys.config_prompt_model import PromptModel
from recsys.errors import InputError
from recsys.model import prompt as module
from recsys.model.prompt import Promo, PromoLoss, PromptInputs, encode, size
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


def made(awake: bool = True, **change: Any) -> Promo:
    """A prompt; `awake`: with a last layer that is not zero."""
    torch.manual_seed(0)
    prompt = Promo(replace(CONFIG, **change), D, N, features=F)
    if awake:
        for parameter in prompt.head[-1].parameters():
            nn.init.normal_(parameter)
    return prompt


def by_hand(prompt: Promo, given: PromptInputs, b: int) -> Tensor:
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
                user = torch.tanh(user @ weight[b] + bias[b])
            outputs.append(user)
        parts += [sum(outputs, torch.zeros(D)) / max(len(outputs), 1), last[b]]
    return given.logit_B[b] + given.user_BE[b] @ prompt.head(torch.cat(parts))


@variants
def test_a_row_is_scored_as_written_out_user_by_user(change: dict[str, Any]) -> None:
    prompt, given = made(**change), inputs()
    logit, _ = prompt(given)
    torch.testing.assert_close(logit, torch.stack([by_hand(prompt, given, b) for b in range(4)]))


def test_the_network_by_hand() -> None:
    """Eq. 7: 1 user, layers 2 -> 1 -> 2."""
    layers = [
        (torch.tensor([[[2.0], [-1.0]]]), torch.tensor([[0.5]])),
        (torch.tensor([[[1.0, -3.0]]]), torch.tensor([[0.0, 1.0]])),
    ]
    hidden = torch.tanh(torch.tensor(2 * 0.3 - 0.1 + 0.5))
    expected = torch.tanh(torch.stack([hidden, 1 - 3 * hidden]))
    torch.testing.assert_close(encode(torch.tensor([[[0.3, 0.1]]]), layers)[0, 0], expected)


@variants
def test_the_first_scores_are_the_bases_to_the_bit(change: dict[str, Any]) -> None:
    given = inputs()
    assert torch.equal(made(awake=False, **change)(given)[0], given.logit_B)


@variants
def test_every_parameter_of_the_prompt_has_a_gradient_and_nothing_of_the_base(change: dict[str, Any]) -> None:
    prompt, given = made(**change), inputs()
    asked = replace(
        given, **{name: each.requires_grad_() for name, each in vars(given).items() if each.is_floating_point()}
    )
    label, weight, cold = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.ones(4), torch.tensor([True, False] * 2)
    PromoLoss(prompt, replace(CONFIG, **change))(asked, label, weight, cold)[0].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in prompt.parameters())
    assert all(each.grad is None for each in vars(asked).values())


def test_the_loss_is_equation_13_and_padding_has_no_part_in_it() -> None:
    config = replace(CONFIG, pfpe=0.3, pape=0.7)
    prompt, given = made(), inputs()
    label, weight, cold = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 1.0]), given.item_B == 1
    loss, (rec, apart, fair, logit) = PromoLoss(prompt, config)(given, label, weight, cold)
    logits, each = prompt(given)
    p = logits.sigmoid()
    torch.testing.assert_close(rec, -(p[0].log() + p[2].log() + (1 - p[3]).log()) / 4)
    torch.testing.assert_close(apart, each[0] / 4)
    assert each[1] > 0 and not each[2:].any()
    torch.testing.assert_close(fair, torch.log(1 + torch.exp(logits[3] - logits[0])))
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
def test_rows_at_a_time_change_no_score_and_no_gradient(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    label, weight, cold = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.ones(4), torch.tensor([True, False] * 2)
    prompt, given = made(**change), inputs()

    def outcome(rows: int) -> list[Tensor]:
        monkeypatch.setattr(module, "ROWS", rows)
        prompt.zero_grad()
        loss, (*_, logit) = PromoLoss(prompt, CONFIG)(given, label, weight, cold)
        loss.backward()
        return [loss, logit, *(each.grad for each in prompt.parameters() if each.grad is not None)]

    whole = outcome(4)
    for rows in (1, 3):
        for found, expected in zip(outcome(rows), whole, strict=True):
            torch.testing.assert_close(found, expected)


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


def auc_of_unseen_items(information: Any) -> float:
    """Users and items at random, a click by the sigmoid of their product, five of an item's forty best users in its
    list, and a base that knows nothing of any item; trained on three items of four, scored on the fourth."""
    torch.manual_seed(0)
    users, items = torch.randn(300, D), torch.randn(200, D)
    taste_UI = users @ items.T
    lists = taste_UI.topk(40, dim=0).indices.T[:, torch.randperm(40)[:5]]
    config = replace(CONFIG, information=information, head=[32])
    prompt = Promo(config, D, 200)
    loss, mask = PromoLoss(prompt, config), torch.ones(256, 5, dtype=torch.bool)
    adam = torch.optim.Adam(prompt.parameters(), lr=0.01)

    def batch(first: int, last: int) -> tuple[PromptInputs, Tensor]:
        i, u = torch.randint(first, last, (256,)), torch.randint(0, 300, (256,))
        nobody, negative = torch.zeros(256, D), users[torch.randint(0, 300, (256, 5))]
        given = PromptInputs(i, nobody, users[u], torch.zeros(256), users[lists[i]], mask, negative, mask)
        return given, (torch.rand(256) < taste_UI[u, i].sigmoid()).float()

    for _ in range(150):
        given, label = batch(0, 150)
        adam.zero_grad()
        loss(given, label, torch.ones(256), given.item_B < 75)[0].backward()
        adam.step()
    scored = [batch(150, 200) for _ in range(20)]
    with torch.no_grad():
        logits = torch.cat([prompt(given)[0] for given, _ in scored])
    return float(roc_auc_score(torch.cat([label for _, label in scored]), logits))


def test_feedback_speaks_for_items_that_no_step_has_seen() -> None:
    assert auc_of_unseen_items("pinnacle") > 0.7
    assert auc_of_unseen_items("ids") == pytest.approx(0.5, abs=0.07)


def test_what_is_tuned_is_counted() -> None:
    """64-12-64 with a last prompt of 16, the numbers of the paper's section on complexity at this size."""
    base = nn.Embedding(100, 640)
    head = (3 * 64 + 16) * 64 + 64 + 64 * 64 + 64
    start = 12 * 65 + 64 * 13 + 16
    with torch.device("meta"):
        rows = size(Promo(PromptModel(parameters="rows"), 64, 1000), base)
        code = size(Promo(PromptModel(), 64, 1000), base)
        shared = size(Promo(PromptModel(network="shared"), 64, 1000), base)
        none = size(Promo(PromptModel(network="none"), 64, 1000), base)
    assert rows.item_bytes == 4 * start == 6512 and rows.tuned == 1000 * start + head
    assert code.item_bytes == 128 and code.tuned == 1000 * 32 + 32 * start + start + head
    assert shared.item_bytes == none.item_bytes == 0 and shared.tuned == start + head
    assert none.tuned == 2 * 64 * 64 + 64 + 64 * 64 + 64
    assert none.share == none.tuned / 64000


def test_features_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="information=both: the items have no features"):
        Promo(replace(CONFIG, information="both"), D, N)
