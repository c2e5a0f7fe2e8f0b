"""What an answer depends on, as digests of 16 bytes: who answers, and the texts of the question."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from recsys.config_simulator import Simulator
from simulator import judge

SIZE = 16
Digests = NDArray[np.uint8]
"""[n, 16]"""

_WORDS = ("item", "items", "do", "did", "tokens", "history_tokens")
"""Settings of the prompt that a question of given texts depends on."""


def of_judge(config: Simulator) -> bytes:
    """Of the model, its adapter and precision, and the wording. What runs the model is not in it: backends agree within
    their tolerance.
    """
    prompt = asdict(config.prompt)
    told = [judge.digest(config.judge), *(prompt[name] for name in _WORDS)]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=SIZE).digest()


def of_texts(texts: Sequence[str]) -> Digests:
    """Of each of n texts."""
    return _rows([text.encode() for text in texts])


def of_lists(lists: Sequence[Sequence[str]]) -> Digests:
    """Of each of n lists of texts, none of which has a line break."""
    return _rows(["\n".join([str(len(texts)), *texts]).encode() for texts in lists])


def _rows(told: list[bytes]) -> Digests:
    joined = b"".join(hashlib.blake2b(one, digest_size=SIZE).digest() for one in told)
    return np.frombuffer(joined, np.uint8).reshape(-1, SIZE)
