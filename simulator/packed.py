"""A causal language model that is asked many questions about few users: each history is forwarded once, its items
against its keys and values. Gradients flow through both.

Legend: C contexts and K questions of a batch, T tokens of the longest context, S of the longest rest of a question,
H width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from recsys.config_simulator import Prompt
from simulator import prompts
from simulator.prompts import Ids, Wording


@dataclass(frozen=True)
class Read:
    """Contexts that the model has read.

    Attributes:
        layers: of each layer keys and values, [C, heads, T, size].
        mask: [C, T] int64, 1 where there is a token.
    """

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor


class Packed:
    """A transformers language model with a linear head, the question, and the logits of its two answers.

    Args:
        model: on its device.
        words: the question by this tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any, words: Wording, config: Prompt) -> None:
        self.body = model.base_model
        self._head = model.get_output_embeddings()
        self._tokenizer = tokenizer
        self._words = words
        self._config = config

    def read(self, histories: Sequence[Sequence[str]]) -> Read:
        """The keys and values of the contexts of C users, from the texts of their histories."""
        from transformers import DynamicCache

        ids, mask = self.padded([self._context(history) for history in histories])
        cache: Any = DynamicCache()
        # Padding comes last, where it changes nothing of what a causal model makes of the tokens; unmasked is faster.
        self.body(input_ids=ids, past_key_values=cache, use_cache=True)
        return Read([(layer.keys, layer.values) for layer in cache.layers], mask)

    def ask(self, read: Read, user: NDArray[np.int64], items: Sequence[str]) -> Tensor:
        """[K, 2] float32 logits of Yes and No to K questions, by the position of their user in `read`, and their item's
        text.
        """
        from transformers import DynamicCache

        fields = prompts.fields(self._tokenizer, items, self._config.tokens)
        ids, mask = self.padded([prompts.question(self._words, field) for field in fields])
        at = torch.from_numpy(user).to(ids.device)
        cache = DynamicCache([(keys[at], values[at]) for keys, values in read.layers])
        before = read.mask[at]
        found = self.body(
            input_ids=ids,
            attention_mask=torch.cat([before, mask], dim=1),
            position_ids=before.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device),
            past_key_values=cache,
            use_cache=True,
        )
        return self._last(found, mask)

    def alone(self, histories: Sequence[Sequence[str]], items: Sequence[str]) -> Tensor:
        """[K, 2] float32 logits to K questions whose contexts no other shares, by their histories and items."""
        fields = prompts.fields(self._tokenizer, items, self._config.tokens)
        asked = [prompts.question(self._words, field) for field in fields]
        ids, mask = self.padded([self._context(one) + rest for one, rest in zip(histories, asked, strict=True)])
        return self._last(self.body(input_ids=ids, use_cache=False), mask)

    def _last(self, found: Any, mask: Tensor) -> Tensor:
        """[K, 2] logits at the last token of each row."""
        at = torch.arange(len(mask), device=mask.device)
        return logits(found.last_hidden_state[at, mask.sum(1) - 1], self._head, self._words.answers)

    def _context(self, history: Sequence[str]) -> Ids:
        fields = prompts.fields(self._tokenizer, history, self._config.history_tokens)
        return prompts.context(self._words, fields)

    def padded(self, rows: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Token ids and mask [B, T] int64, on the model's device, padded on the right."""
        lengths = torch.tensor([len(row) for row in rows])
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()
        return ids.to(self.body.device), mask.to(self.body.device)


def logits(states: Tensor, head: Any, answers: tuple[int, int]) -> Tensor:
    """Logits [K, 2] float32 of the answers, from states [K, H], by the two rows of a linear head."""
    rows = list(answers)
    bias = None if getattr(head, "bias", None) is None else head.bias[rows].float()
    return torch.nn.functional.linear(states.float(), head.weight[rows].float(), bias)
