"""Layer groups on planted layers, and by hand."""

import numpy as np
import pytest

from proxy.groups import group
from recsys.errors import InputError


def planted(kinds: list[int], items: int = 20, width: int = 8) -> np.ndarray:
    """Layers [n, L, H] that are near one another where they are of one kind, of very different scales."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(max(kinds) + 1, items, width))
    layers = [10.0**k * (centres[kind] + 0.05 * draw.normal(size=(items, width))) for k, kind in enumerate(kinds)]
    return np.stack(layers, 1).astype(np.float32)


@pytest.mark.parametrize("kinds", [[0, 0, 1, 1, 2], [0, 1, 2], [0, 1, 1, 1, 1, 2]])
def test_layers_that_say_the_same_are_together_whatever_their_scale(kinds: list[int]) -> None:
    expected = [[k for k, kind in enumerate(kinds) if kind == wanted] for wanted in range(3)]
    assert group(planted(kinds), 3) == expected == group(planted(kinds), 3, seed=5)


def test_fewer_layers_than_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"proxy\.groups: expected at most 2, the encoder's layers, found 3"):
        group(planted([0, 1]), 3)
    with pytest.raises(InputError, match="do not fall into 3 groups"):
        group(np.ones((4, 5, 6), dtype=np.float32), 3)
