"""What stage 1 has to beat: maps from frozen content vectors to the ID space, fitted on the same targets.

Legend: n items, N targets, H content width, D ID width.

- `nearest` (v1, content as it is): frozen vectors lie in no ID space, so an ID is borrowed: the mean of those of the
  training items that are nearest in content.
- `mlp` (v2, CB2CF, doi:10.1145/3298689.3347038): an MLP regressed to the ID by squared error.
- `ridge`: closed form, centred, items weighted by their updates; `ridge/even` weighs them alike.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from proxy.model import layers
from proxy.retrieval import find, measures
from proxy.targets import TRAIN, VALID, Targets
from recsys.config_proxy import Align
from recsys.data.splits import keys_at
from recsys.evaluate.ties import id_keys
from recsys.floor.ridge import FOLDS, Matrix, Ridge, fit, moments

Map = Callable[[Matrix], Matrix]
"""[n, H] content vectors -> [n, D] in the ID space, of any length."""
NAMES = ("v1", "v2", "ridge", "ridge/even")
_NEIGHBOURS = (1, 5, 10, 20, 50)
_EPOCHS, _PATIENCE = 500, 25


@dataclass(frozen=True)
class Known:
    """Targets that have a content vector: what a map is fitted on.

    Attributes:
        targets: N of them.
        x: [N, H] float64 their content vectors.
    """

    targets: Targets
    x: Matrix

    def of(self, part: int) -> tuple[Matrix, Matrix]:
        """x [n, H] and ID vectors [n, D] float64 of the targets that are for `part`."""
        at = self.targets.of(part)
        return self.x[at], self.targets.vectors.double().numpy()[at]


def fit_all(known: Known, grid: list[float], options: Align, names: Iterable[str] = NAMES) -> dict[str, Map]:
    """These baselines by name, each fitted on the training items and chosen on the left-out ones."""
    fits: dict[str, Callable[[], Map]] = {
        "v1": lambda: nearest(known),
        "v2": lambda: mlp(known, options),
        "ridge": lambda: ridge(known, grid),
        "ridge/even": lambda: ridge(known, grid, even=True),
    }
    return {name: fits[name]() for name in names}


def ridge(known: Known, grid: list[float], even: bool = False) -> Ridge:
    """Weighted by updates unless `even`; the penalty of `grid` is chosen by folds of the training items."""
    at = known.targets.of(TRAIN)
    x, y = known.of(TRAIN)
    weight = np.ones(len(at)) if even else known.targets.updates[at].astype(np.float64)
    fold = keys_at(id_keys(known.targets.ids.take(at)), 0) % np.uint64(FOLDS)
    parts = [moments(x[fold == k], y[fold == k], weight[fold == k]) for k in range(FOLDS) if (fold == k).any()]
    return fit(parts, known.x.shape[1], grid)


def nearest(known: Known) -> Map:
    """The mean normalised ID of the k training items of nearest content by centred cosine; k by auc on VALID."""
    x, _ = known.of(TRAIN)
    mean = x.mean(axis=0)
    units = known.targets.unit.double().numpy()[known.targets.of(TRAIN)]
    among = _directions(x - mean)

    def of(k: int) -> Map:
        def guess(asked: Matrix) -> Matrix:
            close = torch.from_numpy(_directions(asked - mean) @ among.T)
            return units[close.topk(min(k, len(units)), dim=1).indices.numpy()].mean(axis=1)

        return guess

    return max((of(k) for k in _NEIGHBOURS), key=lambda each: _auc(known, each))


def mlp(known: Known, options: Align) -> Map:
    """Squared error to the ID vectors, AdamW, the epoch with the lowest error on VALID; as wide as stage 1's phi."""
    torch.manual_seed(options.seed)
    mean, scale = known.of(TRAIN)[0].mean(axis=0), known.of(TRAIN)[0].std(axis=0).mean()

    def tensors(x: Matrix, y: Matrix) -> tuple[Tensor, Tensor]:
        return torch.from_numpy((x - mean) / scale).float(), torch.from_numpy(y).float()

    (x, y), (held_x, held_y) = (tensors(*known.of(part)) for part in (TRAIN, VALID))
    net = nn.Sequential(*layers([x.shape[1], *options.hidden, y.shape[1]]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.new_lr, weight_decay=options.weight_decay)
    best, kept, worse = float("inf"), net.state_dict(), 0
    for _ in range(_EPOCHS):
        for some in torch.randperm(len(x)).split(options.batch_size):
            optimizer.zero_grad()
            mse_loss(net(x[some]), y[some]).backward()
            optimizer.step()
        with torch.no_grad():
            error = float(mse_loss(net(held_x), held_y))
        worse = 0 if error < best else worse + 1
        if error < best:
            best, kept = error, {name: value.clone() for name, value in net.state_dict().items()}
        if worse == _PATIENCE:
            break
    net.load_state_dict(kept)

    @torch.no_grad()
    def guess(asked: Matrix) -> Matrix:
        return net(tensors(asked, asked)[0]).double().numpy()

    return guess


def _auc(known: Known, guess: Map) -> float:
    held = known.targets.of(VALID)
    found = find(torch.from_numpy(guess(known.x[held])), known.targets.unit, held)
    return float(measures(found, len(known.x), [])[1].mean())


def _directions(x: Matrix) -> Matrix:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny)
