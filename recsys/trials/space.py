"""Between our spaces and Optuna's: values of any kind, by name, as distributions and back."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.config_search import Range, Space

Params = dict[str, Any]
"""A value for each name of a space."""
_DIGITS = 3
"""Significant digits of a drawn number, more in a narrow range: what a table prints is what was trained with."""


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's, by name. Values of a list go by their JSON, since Optuna takes no lists among them."""
    return {name: _distribution(choices) for name, choices in space.items()}


def _distribution(choices: list[Any] | Range) -> BaseDistribution:
    if isinstance(choices, list):
        return CategoricalDistribution([json.dumps(choice) for choice in choices])
    low, high, step = choices.low, choices.high, choices.step
    if isinstance(low, int) and isinstance(high, int) and not isinstance(step, float):
        return IntDistribution(low, high, log=choices.log, step=step or 1)
    return FloatDistribution(low, high, log=choices.log, step=step)


def count(space: Space) -> float:
    """How many configurations there are; infinity where a name may be any number of a range."""
    return math.prod(_count(choices) for choices in space.values())


def _count(choices: list[Any] | Range) -> float:
    distribution = _distribution(choices)
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return math.inf
    return round((distribution.high - distribution.low) / distribution.step) + 1


def every(space: Space) -> Iterator[Params]:
    """All configurations of a space in which they can be counted."""
    for values in itertools.product(*(_values(choices) for choices in space.values())):
        yield dict(zip(space, values, strict=True))


def _values(choices: list[Any] | Range) -> list[Any]:
    if isinstance(choices, list):
        return choices
    distribution = _distribution(choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution) and distribution.step is not None
    return [distribution.low + number * distribution.step for number in range(int(_count(choices)))]


def outside(space: Space, drawn: Params) -> Params:
    """What Optuna has drawn as the values that it stands for."""
    return {name: _value(space[name], drawn[name]) for name in space}


def _value(choices: list[Any] | Range, drawn: Any) -> Any:
    if isinstance(choices, list):
        return json.loads(drawn)
    if isinstance(drawn, int) or choices.step is not None:
        return drawn
    low, high = float(choices.low), float(choices.high)
    digits = _DIGITS + max(0, math.floor(math.log10(max(abs(low), abs(high)) / (high - low))))
    return min(max(float(f"{drawn:.{digits}g}"), low), high)


def inside(space: Space, params: Params) -> Params:
    """As Optuna knows them those of the values that the space has; a default may have others."""
    known = {name: json.dumps(value) if isinstance(space[name], list) else value for name, value in params.items()}
    return {name: value for name, value in known.items() if _holds(space[name], value)}


def _holds(choices: list[Any] | Range, value: Any) -> bool:
    distribution = _distribution(choices)
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = int if isinstance(distribution, IntDistribution) else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    return distribution.step is None or abs(steps - round(steps)) < 1e-8
