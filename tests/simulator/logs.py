"""The tiny dataset as the judge reads it, and the tiny judge."""

from pathlib import Path
from typing import Any

from recsys import settings
from recsys.config import Config
from tests import tiny

PROMPT = {"item": "film", "items": "films", "do": "watch", "did": "watched", "history": 4, "template": "{title} {year}"}


def config(home: Path, judge: Path, **simulator: Any) -> Config:
    """`simulator`: keys of its sections, such as `tune={"steps": 3}`."""
    small = {
        "prompt": {**PROMPT, "history_tokens": 12, "tokens": 16},
        "judge": {"name": str(judge), "bf16": False, "batch_size": 10},
    }
    return tiny.config(home / "data", home / "run", simulator={**small, **simulator})


def write(home: Path) -> Path:
    """Write the dataset to `home/data`."""
    tiny.write(home / "data", {"train": 303, "valid": 41, "test": 301})
    return home


def dump(made: Config, path: Path) -> Path:
    """For a command that reads it."""
    settings.dump(made, path)
    return path
