"""The part of the config that says what a search of hyper-parameters may choose from (`tools.search`)."""

from dataclasses import field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Finite, Natural, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Range:
    """Numbers from `low` to `high`, both included: whole ones where both ends are."""

    low: int | Finite
    """Smallest."""
    high: int | Finite
    """Largest."""
    log: bool = False
    """Draw orders of magnitude alike: for rates and penalties."""
    step: int | Finite | None = None
    """Distance of two neighbours, counted from `low`; None is 1 for whole numbers, and any for others."""

    @model_validator(mode="after")
    def _not_empty(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} and high {self.high:g}: nothing to choose from: expected low < high")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g}: expected a number above 0 where log is true")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError(f"step {self.step:g}: expected a number above 0, and no log beside it")
        return self


Space = dict[str, list[Any] | Range]
"""What each name may be: one of several values, or a number of a range."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Search:
    """A search of hyper-parameters by Optuna; trials are compared on split=valid, and no test row is looked at."""

    system: Literal["ranker", "means", "finetune", "ridge"] = "ranker"
    """What is trained in each trial: the ranker, or a system of `tools.floor` for new items made of training rows."""
    space: Space = field(default_factory=dict)
    """By dotted key of this config, what it may be: a list of values, or {low, high, log, step}."""
    metric: Literal["auc", "gauc", "logloss"] = "auc"
    """What trials are compared by: AUC, AUC within users, or log loss, which is to be low. Which checkpoint of a run is
    its best remains a matter of AUC."""
    trials: Positive = 20
    """Trials in all, the config as it stands being the first. More may be asked for later."""
    seed: Natural = 0
    """Draws the trials; each trains with `train.seed`."""
    keep: bool = False
    """Keep the run folder of every trial, of which there is a checkpoint each; else it goes when its trial is over."""
    exposure: Natural = 8
    """means, finetune, ridge: rows of each new item to learn from."""

    @field_validator("space", mode="before")
    @classmethod
    def _spaces(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise ValueError("expected a mapping of keys to a list of values or to {low, high}")
        return {key: _choices(str(key), choices) for key, choices in given.items()}


def _choices(key: str, given: Any) -> Any:
    if isinstance(given, Range):
        return given
    if isinstance(given, list):
        if not given:
            raise ValueError(f"{key}: an empty list: nothing to choose from")
        return given
    if not isinstance(given, dict):
        raise ValueError(f"{key}: expected a list of values or {{low, high, log, step}}, found {given!r}")
    try:
        return TypeAdapter(Range).validate_python(given)
    except ValidationError as error:
        problem = error.errors()[0]
        # Of a union, the place ends in the kind that was tried.
        place = ".".join([key, *map(str, problem["loc"][:1])])
        raise ValueError(f"{place}: {problem['msg'].removeprefix('Value error, ')}") from None
