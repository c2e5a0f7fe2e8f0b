"""Token states of a frozen encoder, computed once and then read from disk: an epoch over them costs seconds.

    states = TokenStates(encoder, content, at, batch_size, folder)
    last, mask = states(some)

They lie in a file that loses its name once it is whole; of a process that is killed before, the next alignment sweeps
it away (`recsys.files.sweep`).

Legend: n items, B of them in a batch, T tokens, H encoder width.
"""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from proxy.content import Content
from proxy.encoder import Encoder
from proxy.model import by_length


class TokenStates:
    """States of n items: T H numbers an item on disk, in bfloat16 where the encoder computes in it, else float32.

    Args:
        encoder: not to be changed any more, on any device.
        content: of all items; `at`: [n] int64, the items among them that will be asked for.
        batch_size: items of one forward.
        folder: a folder on the disk that is to hold them.
    """

    @torch.inference_mode()
    def __init__(
        self, encoder: Encoder, content: Content, at: NDArray[np.int64], batch_size: int, folder: Path
    ) -> None:
        self._dtype = torch.bfloat16 if encoder.bf16 else torch.float32
        self._width = encoder.width
        self._start = np.zeros(len(content), np.int64)
        self._tokens = np.zeros(len(content), np.int64)
        total = 0
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".states.{os.getpid()}.tmp"
        with path.open("wb") as file:
            for some in tqdm(by_length(content, at, batch_size), desc="token states", unit="batch", disable=None):
                states = encoder(encoder.collate(content.take(some)))
                tokens = states.mask.sum(1).cpu().numpy()
                self._start[some] = total + np.append(0, tokens[:-1].cumsum())
                self._tokens[some] = tokens
                total += int(tokens.sum())
                rows = states.last[states.mask].to("cpu", self._dtype)
                file.write(rows.contiguous().view(torch.uint8).numpy().data)
        self._rows = torch.from_file(str(path), shared=False, size=total * self._width, dtype=self._dtype)
        path.unlink()  # the mapping outlives the name
        self._rows = self._rows.view(total, self._width)

    def __call__(self, at: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """[B, T, H] states, zero where there is no token, and [B, T] bool, on the CPU, of the items `at` [B]."""
        tokens = self._tokens[at]
        found = [self._rows[s : s + t] for s, t in zip(self._start[at], tokens, strict=True)]
        mask = torch.arange(int(tokens.max()))[None, :] < torch.from_numpy(tokens)[:, None]
        return pad_sequence(found, batch_first=True), mask
