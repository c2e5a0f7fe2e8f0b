"""The scores of a network beside a frozen base, for `tools.evaluate --vectors` (see `recsys.evaluate.matrix`).

    y = h_u . h_i + h_u . e_final(i, its pinnacle users by then)

Lists change with time, so an item has no one vector; every pair of a user with a positive row in the split and an item
is scored, as of that row. An item's network runs once for each of its different lists. Beside the scores, 4 bytes a
pair, a block of items is held.

Legend: U users, I items, P pairs of a block, k places of a list, D width.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from recsys.backbones.sequences import seconds
from recsys.evaluate import matrix
from recsys.model.prompt import Promo
from recsys.prompt.beside import Beside
from recsys.prompt.network import PAIRS, vectors

BLOCK = 2**18
"""Pairs in a block, at some 0.5 kB each."""


def write(folder: Path, model: Promo, beside: Beside, dataset: Path, split: str = "test") -> Path:
    """Score all pairs of the split; returns the folder.

    Raises:
        InputError: a file of the split that is not as it should be.
    """
    graph = beside.base.graph
    then = seconds(dataset, split, graph)
    user = np.flatnonzero(then >= 0)
    users = vectors(beside.base, dataset, split)[torch.from_numpy(user)]
    return matrix.write(folder, graph.users.take(user), graph.items, score(model, beside, user, then[user], users))


@torch.inference_mode()
def score(
    model: Promo, beside: Beside, user: NDArray[np.int64], second: NDArray[np.int64], users: Tensor
) -> NDArray[np.float32]:
    """[U, I] of users [U] as of seconds [U] with vectors [U, D] then, for all items."""
    items, found = len(beside.base.items), (users @ beside.base.items.T).cpu().numpy()
    each = max(BLOCK // max(len(user), 1), 1)
    for start in tqdm(range(0, items, each), desc="scoring all pairs", unit=" blocks of items", disable=None):
        block = np.arange(start, min(start + each, items))
        item, who = np.repeat(block, len(user)), np.tile(np.arange(len(user)), len(block))
        found[:, block] += _terms(model, beside, item, who, user, second, users).reshape(len(block), -1).T
    return found


def _terms(
    model: Promo,
    beside: Beside,
    item: NDArray[np.int64],
    who: NDArray[np.int64],
    user: NDArray[np.int64],
    second: NDArray[np.int64],
    users: Tensor,
) -> NDArray[np.float32]:
    """[P] the network's terms for items [P] and positions [P] among the users."""
    lists = beside.lists(user[who], item, second[who])
    keys = np.column_stack([item.astype(np.int32), lists.pinnacle])
    _, first, same = np.unique(
        keys.view(f"V{keys.itemsize * keys.shape[1]}").ravel(), return_index=True, return_inverse=True
    )
    nobody = beside.base.items.new_zeros(1, users.shape[1])
    finals = torch.cat(
        [
            model.final(beside.inputs(item[some], lists[some], nobody.expand(len(some), -1)))
            for some in np.array_split(first, -(-len(first) // PAIRS))
        ]
    )
    device = users.device
    terms = (users[torch.from_numpy(who).to(device)] * finals[torch.from_numpy(same).to(device)]).sum(dim=1)
    return terms.cpu().numpy()
