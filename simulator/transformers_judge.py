"""The judge in this process, by transformers: each history is forwarded once, its items against its keys and values.

Legend: C contexts and K questions of a batch, T tokens of the longest context, S of the longest rest of a question,
H width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from recsys.config_simulator import Simulator
from recsys.content import pretrained
from recsys.errors import InputError
from simulator import adapters, prompts
from simulator.prompts import Ids, Wording

KEY = "simulator.judge"


@dataclass(frozen=True)
class Read:
    """Contexts that the model has read.

    Attributes:
        layers: of each layer keys and values, [C, heads, T, size].
        mask: [C, T] int64, 1 where there is a token.
    """

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor


class TransformersJudge:
    """`simulator.judge.Judge` over a causal language model with a linear head.

    P(Yes) is that of whole prompts, one a row, within 1e-5 in float32 and 0.0625 in bfloat16, whatever shares a batch.

    Args:
        model: on its device, in evaluation mode.
        words: the question by this tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any, words: Wording, config: Simulator) -> None:
        self._body = model.base_model
        self._head = model.get_output_embeddings()
        self._tokenizer = tokenizer
        self._words = words
        self._config = config.prompt
        self._batch = config.judge.batch_size

    @torch.inference_mode()
    def score(
        self, contexts: Sequence[Sequence[str]], items: Sequence[str], pairs: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `simulator.judge.Judge`. Contexts of like length are read together, those of one batch by one forward."""
        found = np.zeros(len(pairs), np.float32)
        lengths = np.array([sum(map(len, one)) for one in contexts], np.int64)
        for rows in _batches(pairs[:, 0], lengths, self._batch):
            users, user = np.unique(pairs[rows, 0], return_inverse=True)
            read = self._read([self._context(contexts[one]) for one in users])
            order = np.argsort([len(items[one]) for one in pairs[rows, 1]], kind="stable")
            for part in np.split(order, range(self._batch, len(order), self._batch)):
                found[rows[part]] = self._ask(read, user[part], [items[one] for one in pairs[rows[part], 1]])
        return found

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `simulator.judge.Judge`. A text is read as in a question (cleaned, `tokens` of it), without its words."""
        found = np.zeros((len(texts), self._body.config.get_text_config().hidden_size), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        begin = prompts.start(self._tokenizer)
        for part in np.split(order, range(self._batch, len(order), self._batch)):
            fields = prompts.fields(self._tokenizer, [texts[one] for one in part], self._config.tokens)
            told = [(row, begin + field) for row, field in zip(part, fields, strict=True) if field]
            if told:
                ids, mask = self._padded([one for _, one in told])
                states = self._body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                sums = torch.einsum("bth,bt->bh", states.float(), mask.float())
                found[[row for row, _ in told]] = (sums / mask.sum(1, keepdim=True)).cpu().numpy()
        return found

    def _context(self, history: Sequence[str]) -> Ids:
        fields = prompts.fields(self._tokenizer, history, self._config.history_tokens)
        return prompts.context(self._words, fields)

    def _read(self, contexts: list[Ids]) -> Read:
        from transformers import DynamicCache

        ids, mask = self._padded(contexts)
        cache: Any = DynamicCache()
        self._body(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        return Read([(layer.keys, layer.values) for layer in cache.layers], mask)

    def _ask(self, read: Read, user: NDArray[np.int64], items: Sequence[str]) -> NDArray[np.float32]:
        """[K] P(Yes) of questions by the position of their context, and their item."""
        from transformers import DynamicCache

        fields = prompts.fields(self._tokenizer, items, self._config.tokens)
        ids, mask = self._padded([prompts.question(self._words, field) for field in fields])
        at = torch.from_numpy(user).to(ids.device)
        cache = DynamicCache([(keys[at], values[at]) for keys, values in read.layers])
        before = read.mask[at]
        states = self._body(
            input_ids=ids,
            attention_mask=torch.cat([before, mask], dim=1),
            position_ids=before.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        last = states[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
        return _logits(last, self._head, self._words.answers).softmax(dim=1)[:, 0].cpu().numpy()

    def _padded(self, rows: list[Ids]) -> tuple[Tensor, Tensor]:
        """Token ids and mask [B, T] int64, on the model's device, padded on the right."""
        lengths = torch.tensor([len(row) for row in rows])
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()
        return ids.to(self._body.device), mask.to(self._body.device)


def _logits(states: Tensor, head: Any, answers: tuple[int, int]) -> Tensor:
    """Logits [K, 2] float32 of the answers, from states [K, H], by the two rows of a linear head."""
    rows = list(answers)
    bias = None if getattr(head, "bias", None) is None else head.bias[rows].float()
    return torch.nn.functional.linear(states.float(), head.weight[rows].float(), bias)


def _batches(users: NDArray[np.int64], lengths: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Rows of pairs in batches of `size` at most, a user's all in one: those of one with more are a batch."""
    order = np.lexsort((users, lengths[users]))
    batch: list[NDArray[np.int64]] = []
    for rows in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        if batch and sum(map(len, batch)) + len(rows) > size:
            yield np.concatenate(batch)
            batch = []
        batch.append(rows)
    if len(order):
        yield np.concatenate(batch)


def load(config: Simulator, device: torch.device) -> TransformersJudge:
    """The config's model on this device, its adapter merged. Raises as `simulator.judge.load` does."""
    asked = config.judge
    dtype = torch.bfloat16 if asked.bf16 else torch.float32
    model, tokenizer = pretrained.load(asked.name, "text", dtype, Path(asked.cache), KEY)
    model.eval()
    words = prompts.wording(tokenizer, config.prompt)
    positions, longest = model.config.get_text_config().max_position_embeddings, words.longest(config.prompt)
    if longest > positions:
        raise InputError(
            f"simulator.prompt: {asked.name} reads {positions} tokens, a question can have {longest}; expected fewer "
            "of history, history_tokens or tokens"
        )
    _check_head(model, words, asked.name)
    if asked.adapter is not None:
        model = adapters.merged(model, Path(asked.adapter))
    return TransformersJudge(model.to(device), tokenizer, words, config)


@torch.inference_mode()
def _check_head(model: Any, words: Wording, name: str) -> None:
    """Some models scale or bend the logits that their head makes; two rows of it would not tell."""
    ids = torch.tensor([words.closing])
    given = model(input_ids=ids, use_cache=False).logits[0, -1, list(words.answers)].float()
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1:]
    made = _logits(states, model.get_output_embeddings(), words.answers)[0]
    # A bfloat16 head rounds to 3 digits.
    if not torch.allclose(given, made, rtol=0.02, atol=0.02 * float(given.abs().max())):
        raise InputError(f"{KEY}.name: {name}: expected a language model whose logits are those of a linear head")
