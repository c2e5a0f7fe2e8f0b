"""A tiny judge with random weights: all that it lacks is sense."""

from pathlib import Path
from typing import Any

from recsys.config_simulator import Judge, Prompt, Simulator
from tests.proxy import models

WORDS = " by answering Yes or No. Answer: Yes Answer: No a film of toys that come alive"
FILM = Prompt(item="film", items="films", do="watch", did="watched", history=4, history_tokens=12, tokens=40)


def folder(path: Path, **changes: Any) -> Path:
    """A Llama that answers are one token to, and whose answers differ a good deal."""
    return models.llama(path, WORDS, **{"initializer_range": 0.5, **changes})


def config(path: Path, prompt: Prompt = FILM, **judge: Any) -> Simulator:
    """To ask it, in float32."""
    return Simulator(prompt=prompt, judge=Judge(**{"name": str(path), "bf16": False, "batch_size": 4, **judge}))
