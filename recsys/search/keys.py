"""Which keys of the config a search may choose, and the values that they stand for."""

from dataclasses import replace
from typing import Any

from recsys import settings
from recsys.config import Config
from recsys.config_search import Range, Space
from recsys.errors import InputError
from recsys.trials.space import Params

KEYS = {
    "ranker": ("model.", "train.", "features.", "item_capacity"),
    "means": ("floor.strength",),
    "finetune": ("floor.prior", "floor.tolerance", "floor.max_passes"),
    "ridge": ("floor.ridge", "floor.content", "floor.prior", "floor.tolerance", "floor.max_passes"),
}
"""What a system's keys begin with; another key changes nothing that its trials are compared by, or what they are
compared on."""
_WHERE = "search.space"


def resolved(config: Config) -> tuple[Space, Params]:
    """The space with its values as the schema takes them (a 0 of a float is 0.0), and the config's own values.

    Raises:
        InputError: no key, an unknown key (with the nearest known one), one that the system does not read, a value that
            its key does not take, or a range of what is no number.
    """
    asked = config.search
    if not asked.space:
        raise InputError(
            f"{_WHERE}: expected keys to choose, such as {{train.lr: {{low: 0.001, high: 0.02, log: true}}}}"
        )
    space: Space = {}
    for key, choices in asked.space.items():
        values = choices if isinstance(choices, list) else [choices.low, choices.high]
        taken = [_taken(config, key, value) for value in values]
        if not key.startswith(KEYS[asked.system]):
            raise InputError(
                f"{_WHERE}: {key}: not a key that search.system={asked.system} is searched by: expected one that "
                f"begins with {', '.join(KEYS[asked.system])}"
            )
        space[key] = taken if isinstance(choices, list) else _range(key, choices, *taken)
    tree = settings.plain(config)
    return space, {key: settings.value_of(tree, key) for key in space}


def _taken(config: Config, key: str, value: Any) -> Any:
    return settings.value_of(settings.plain(settings.with_values(config, {key: value}, _WHERE)), key)


def _range(key: str, choices: Range, low: Any, high: Any) -> Range:
    ends = [_single(end) for end in (low, high)]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise InputError(f"{_WHERE}: {key}: a range needs a key that takes numbers: expected a list of values")
    step = choices.step
    if isinstance(ends[0], int) and isinstance(step, float):
        if not step.is_integer():
            raise InputError(f"{_WHERE}: {key}: step {step:g}: expected a whole number, as {key} takes")
        step = int(step)
    return replace(choices, low=ends[0], high=ends[1], step=step)


def _single(value: Any) -> Any:
    """Of a key that takes several values or one, the one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def laid(config: Config, params: Params) -> dict[str, Any]:
    """The parameters as a nested mapping that can be laid over the config's file; a list is in it as a whole."""
    tree = settings.plain(settings.with_values(config, params, _WHERE))
    found: dict[str, Any] = {}
    for key in params:
        node, below, parts = found, tree, key.split(".")
        for part in parts[:-1]:
            if isinstance(below[part], list):
                break
            node, below = node.setdefault(part, {}), below[part]
        else:
            part = parts[-1]
        node[part] = below[part]
    return found
