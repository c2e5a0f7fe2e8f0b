"""Who answers: one interface over the backends that run the language model.

judge = load(config.simulator, device)
yes = judge.score(contexts, items, pairs)
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.config_simulator import Judge as Asked
from recsys.config_simulator import Simulator
from simulator.endpoints import ALONE, Share


class Judge(Protocol):
    """P(Yes) and content vectors by a language model. Texts are as the data has them; the judge cleans and cuts them.

    Beside its arguments and results a call needs memory for one batch.
    """

    def score(
        self, contexts: Sequence[Sequence[str]], items: Sequence[str], pairs: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """[P] float32 of P questions: softmax over the logits of Yes and No, that of Yes (ColdLLM, eq. 9).

        contexts: of each user the texts of their history, none for a user without one.
        items: texts of the items asked about.
        pairs: [P, 2] (position in `contexts`, position in `items`), in any order; a user's are best asked in one call.
        """
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, H] float32: the mean of the last layer's states over a text's tokens (ColdLLM, LLM_emb), zero for one
        without tokens.
        """
        ...


def load(config: Simulator, device: torch.device, share: Share = ALONE) -> Judge:
    """The judge of a config, asked by one process of several (`share`).

    Raises:
        InputError: no such model or adapter, an answer that is not one token, a question too long for the model, or no
            servers where there should be.
    """
    from simulator import transformers_judge, vllm_judge  # bring transformers, which takes seconds to import

    if config.judge.backend == "vllm":
        return vllm_judge.load(config, device, share)
    return transformers_judge.load(config, device)


def digest(asked: Asked) -> str:
    """SHA-256 over what the answers to a question depend on: the model, the adapter, the precision.

    A model or an adapter in a folder is its weights and settings, wherever the folder lies; any other is its name.
    """
    told = hashlib.sha256(b"bfloat16" if asked.bf16 else b"float32")
    for named in (asked.name, asked.adapter or ""):
        files = sorted(one for kind in ("*.json", "*.safetensors") for one in Path(named).glob(kind)) if named else []
        told.update(f"\n{len(files)} files".encode() if files else f"\n{named}".encode())
        for path in files:
            with path.open("rb") as file:
                told.update(f"\n{path.name}".encode() + hashlib.file_digest(file, "sha256").digest())
    return told.hexdigest()
