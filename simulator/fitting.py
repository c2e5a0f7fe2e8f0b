"""Training of one pair of towers, until the users of left-out items are found no better."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding
from tqdm import tqdm

from recsys.config_simulator import Filter
from recsys.errors import InputError
from simulator.left_out import LeftOut
from simulator.samples import Codes, Interactions
from simulator.towers import Batch, Pair

Matrix = NDArray[np.float32]
Loss = Callable[[Pair, Batch, tuple[Tensor, ...]], Tensor]
"""Of a pair, what its towers made of a batch, and the codes [B] of users, items, other items and other users."""
STOP = "recall@50"
"""What an epoch is judged by."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a pair's towers read, on their device: [U, A] of users and [I, H] of items."""

    users: Tensor
    items: Tensor


def fit(
    name: str, pair: Pair, inputs: Inputs, loss: Loss, known: Interactions, left: LeftOut, options: Filter
) -> list[dict[str, float]]:
    """Train the pair in place; it has the best epoch's weights in the end. Returns its measures by epoch.

    A batch's rows go through a tower once each, however often they occur in it.

    Raises:
        InputError: a loss that is not finite.
    """
    adam = torch.optim.AdamW(pair.parameters(), options.lr)
    history: list[dict[str, float]] = []
    best = {key: value.clone() for key, value in pair.state_dict().items()}
    with tqdm(total=options.epochs, desc=f"filter, {name}", unit="epoch", disable=None) as bar:
        while len(history) < options.epochs and _waited(history) < options.patience:
            for codes in known.batches(options.batch, options.seed, len(history)):
                _step(pair, inputs, loss, codes, adam)
            history.append(left.measure(*vectors(pair, inputs)))
            if not _waited(history):
                best = {key: value.clone() for key, value in pair.state_dict().items()}
            bar.set_postfix(recall=f"{history[-1][STOP]:.4f}")
            bar.update()
    pair.load_state_dict(best)
    return history


@torch.inference_mode()
def vectors(pair: Pair, inputs: Inputs) -> tuple[Matrix, Matrix]:
    """[U, D] of users and [I, D] of items."""
    return pair.user(inputs.users).cpu().numpy(), pair.item(inputs.items).cpu().numpy()


def best(history: list[dict[str, float]]) -> int:
    """The epoch that was kept: the earliest of those judged highest."""
    return int(np.argmax([one[STOP] for one in history]))


def _waited(history: list[dict[str, float]]) -> int:
    return len(history) - 1 - best(history) if history else 0


def _step(
    pair: Pair, inputs: Inputs, loss: Loss, codes: tuple[Codes, Codes, Codes, Codes], adam: torch.optim.Optimizer
) -> None:
    at = tuple(torch.from_numpy(one).to(inputs.users.device) for one in codes)
    user, item, other_item, other_user = at
    made_users = _made(pair.user, inputs.users, user, other_user)
    made_items = _made(pair.item, inputs.items, item, other_item)
    found = loss(pair, Batch(made_users[0], made_items[0], made_items[1], made_users[1]), at)
    if not found.isfinite():
        raise InputError(f"the filter's loss is {found.item()}: expected a finite one, lower simulator.filter.lr")
    adam.zero_grad()
    found.backward()
    adam.step()


def _made(tower: torch.nn.Module, read: Tensor, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    # `embedding` and not an index: its backward adds up rows several times faster.
    rows, place = torch.cat([one, other]).unique(return_inverse=True)
    made = tower(read[rows])
    return embedding(place[: len(one)], made), embedding(place[len(one) :], made)
