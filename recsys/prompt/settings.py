"""Which settings feedback lists depend on."""

from dataclasses import asdict
from typing import Any

from recsys.config_prompt import Prompt


def settings_of(options: Prompt) -> dict[str, Any]:
    """The keys of the config's `prompt` that lists depend on: all but those of what is made of lists."""
    return {key: value for key, value in asdict(options).items() if key != "name" and not isinstance(value, dict)}
