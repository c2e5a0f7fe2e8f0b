"""The judge in this process, by transformers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.config_simulator import Simulator
from recsys.content import pretrained
from recsys.errors import InputError
from simulator import adapters, prompts
from simulator.packed import Packed, logits
from simulator.prompts import Wording

KEY = "simulator.judge"


class TransformersJudge:
    """`simulator.judge.Judge` over a causal language model with a linear head.

    P(Yes) is that of whole prompts, one a row, within 1e-5 in float32 and 0.0625 in bfloat16, whatever shares a batch.

    Args:
        model: on its device, in evaluation mode.
        words: the question by this tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any, words: Wording, config: Simulator) -> None:
        self._model = Packed(model, tokenizer, words, config.prompt)
        self._tokenizer = tokenizer
        self._config = config.prompt
        self._batch = config.judge.batch_size

    @torch.inference_mode()
    def score(
        self, contexts: Sequence[Sequence[str]], items: Sequence[str], pairs: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `simulator.judge.Judge`. Contexts of like length are read together, those of one batch by one forward; a
        context with one question, with its question.
        """
        found = np.zeros(len(pairs), np.float32)
        lengths = np.array([sum(map(len, one)) for one in contexts], np.int64)
        alone = (np.bincount(pairs[:, 0], minlength=len(contexts)) == 1)[pairs[:, 0]]
        for rows in _batches(np.flatnonzero(alone), pairs[:, 0], lengths, self._batch):
            asked = self._model.alone([contexts[one] for one in pairs[rows, 0]], [items[one] for one in pairs[rows, 1]])
            found[rows] = _yes(asked)
        for rows in _batches(np.flatnonzero(~alone), pairs[:, 0], lengths, self._batch):
            users, user = np.unique(pairs[rows, 0], return_inverse=True)
            read = self._model.read([contexts[one] for one in users])
            order = np.argsort([len(items[one]) for one in pairs[rows, 1]], kind="stable")
            for part in np.split(order, range(self._batch, len(order), self._batch)):
                found[rows[part]] = _yes(
                    self._model.ask(read, user[part], [items[one] for one in pairs[rows[part], 1]])
                )
        return found

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `simulator.judge.Judge`. A text is read as in a question (cleaned, `tokens` of it), without its words."""
        found = np.zeros((len(texts), self._model.body.config.get_text_config().hidden_size), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        begin = prompts.start(self._tokenizer)
        for part in np.split(order, range(self._batch, len(order), self._batch)):
            fields = prompts.fields(self._tokenizer, [texts[one] for one in part], self._config.tokens)
            told = [(row, begin + field) for row, field in zip(part, fields, strict=True) if field]
            if told:
                ids, mask = self._model.padded([one for _, one in told])
                states = self._model.body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                sums = torch.einsum("bth,bt->bh", states.float(), mask.float())
                found[[row for row, _ in told]] = (sums / mask.sum(1, keepdim=True)).cpu().numpy()
        return found


def _yes(logits: Tensor) -> NDArray[np.float32]:
    """[K] P(Yes) of logits [K, 2]."""
    found: NDArray[np.float32] = logits.softmax(dim=1)[:, 0].cpu().numpy()
    return found


def _batches(
    some: NDArray[np.int64], users: NDArray[np.int64], lengths: NDArray[np.int64], size: int
) -> Iterator[NDArray[np.int64]]:
    """These rows of pairs in batches of `size` at most, a user's all in one: those of one with more are a batch."""
    order = some[np.lexsort((users[some], lengths[users[some]]))]
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
    model, tokenizer, words = base(config)
    if config.judge.adapter is not None:
        model = adapters.merged(model, Path(config.judge.adapter))
    return TransformersJudge(model.to(device), tokenizer, words, config)


def base(config: Simulator) -> tuple[Any, Any, Wording]:
    """The config's model as it is, in evaluation mode on the CPU, its tokenizer, and the question by this tokenizer.

    Raises:
        InputError: no such model, an answer that is not one token, or a question too long for the model.
    """
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
    return model, tokenizer, words


@torch.inference_mode()
def _check_head(model: Any, words: Wording, name: str) -> None:
    """Some models scale or bend the logits that their head makes; two rows of it would not tell."""
    ids = torch.tensor([words.closing])
    given = model(input_ids=ids, use_cache=False).logits[0, -1, list(words.answers)].float()
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1:]
    made = logits(states, model.get_output_embeddings(), words.answers)[0]
    # A bfloat16 head rounds to 3 digits.
    if not torch.allclose(given, made, rtol=0.02, atol=0.02 * float(given.abs().max())):
        raise InputError(f"{KEY}.name: {name}: expected a language model whose logits are those of a linear head")
