"""Closed-form ridge from content vectors to trained ID vectors, in a stream.

Legend: n items, H content width, D ID width, M [1 + H + D, 1 + H + D] weighted moments.

    minimise  sum_i w_i ||y_i - mean_y - (x_i - mean_x) A||^2 + penalty ||A||^2          A: [H, D]

over warm items i with weights w_i, their training rows: what `sklearn.linear_model.Ridge` solves with sample weights.
Everything follows from the moments of [1, x, y], which add up over parts, so no item is held.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
FOLDS = 5


def moments(x: Matrix, y: Matrix, weight: Matrix) -> Matrix:
    """M of items with content x [n, H], ID vectors y [n, D] and weights [n]."""
    z = np.concatenate([np.ones((len(x), 1)), x, y], axis=1)
    return z.T @ (weight[:, None] * z)


@dataclass(frozen=True)
class Ridge:
    """A fitted map, and how it was chosen."""

    mean_x: Matrix
    """[H]."""
    mean_y: Matrix
    """[D]: the prediction for an item without content."""
    weights: Matrix
    """A [H, D]."""
    penalty: float
    errors: tuple[float, ...] = ()
    """Weighted squared error on left-out items, as a share of that of predicting the mean, for each of the grid."""
    residual: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    """[D, D] weighted covariance of the errors on left-out items."""

    def __call__(self, x: Matrix) -> Matrix:
        """[n, H] -> [n, D]."""
        return self.mean_y + (x - self.mean_x) @ self.weights


def solve(total: Matrix, width: int, multiple: float) -> Ridge:
    """The ridge of moments `total`, H = `width`.

    multiple: the penalty, in units of the mean eigenvalue of the centred content's moments, so that neither the number
        of rows nor the length of the vectors matters.
    """
    mean = total[0] / total[0, 0]
    centred = total[1:, 1:] - total[0, 0] * np.outer(mean[1:], mean[1:])
    xx, xy = centred[:width, :width], centred[:width, width:]
    penalty = multiple * max(float(np.trace(xx)) / width, np.finfo(np.float64).tiny)
    weights = np.linalg.solve(xx + penalty * np.eye(width), xy)
    return Ridge(mean[1 : width + 1], mean[width + 1 :], weights, penalty)


def fit(folds: list[Matrix], width: int, grid: list[float]) -> Ridge:
    """The ridge of all folds' moments, with the multiple of `grid` that predicts left-out folds best."""
    total = sum(folds[1:], start=folds[0])
    outs = [total - fold for fold in folds]

    def left_out(lines: list[Ridge]) -> Matrix:
        residuals = [_residual(fold, line) for fold, line in zip(folds, lines, strict=True)]
        return np.sum(residuals, axis=0) / total[0, 0]

    lines = [[solve(out, width, multiple) for out in outs] for multiple in grid]
    found = [left_out(each) for each in lines]
    constant = np.trace(left_out([replace(line, weights=0 * line.weights) for line in lines[0]]))
    errors = [float(np.trace(each)) for each in found]
    best = int(np.argmin(errors))
    shares = tuple(error / max(constant, np.finfo(np.float64).tiny) for error in errors)
    return replace(solve(total, width, grid[best]), errors=shares, residual=found[best])


def _residual(fold: Matrix, line: Ridge) -> Matrix:
    """[D, D] summed weighted products of errors on the items of a fold: with errors [1, x, y] R it is R' M R."""
    errors = np.concatenate([-line(np.zeros((1, len(line.mean_x)))), -line.weights, np.eye(len(line.mean_y))])
    return errors.T @ fold @ errors
