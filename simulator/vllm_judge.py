"""The judge on vLLM servers, over HTTP. Questions go as token ids made here, so that they are those of every backend:
no server tokenises, cuts or frames a text.

    python -m vllm.entrypoints.openai.api_server --model FOLDER --block-size 32 --enable-prefix-caching \\
        --hf-overrides '{"head_dtype": "float32"}' [--logprobs-mode processed_logprobs]

A request is one user's history and up to `batch_size` items, by `/generative_scoring`, so that the server's prefix
cache computes the history once. A server without that route is asked for one token by `/v1/completions`, and must tell
log-probabilities as processed, or only those of the likeliest of all tokens are seen. Logits in bfloat16 have three
digits: a float32 head tells more scores apart.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from recsys.config_simulator import Simulator
from recsys.content import pretrained
from recsys.errors import InputError
from simulator import prompts, transformers_judge
from simulator.endpoints import ALONE, Endpoints, Fault, Question, Refused, Server, Share, brief
from simulator.prompts import Ids, Wording
from simulator.transformers_judge import TransformersJudge

KEY = "simulator.judge"
Floats = NDArray[np.float32]


class VllmJudge:
    """`simulator.judge.Judge` over vLLM servers of one model.

    Before its first request a server must show that it tokenises as this judge does, and reads prompts as long as the
    config's; whether it has the same weights nobody can tell.

    Args:
        tokenizer, width: the model's, and of its hidden states.
        device: where the model runs that embeds, when no server does.
        share: which of the processes that ask the servers this is.
    """

    def __init__(
        self, tokenizer: Any, width: int, config: Simulator, device: torch.device, share: Share = ALONE
    ) -> None:
        asked = config.judge
        self._tokenizer = tokenizer
        self._width = width
        self._words = words = prompts.wording(tokenizer, config.prompt)
        # Here, because no two threads may tokenise at a time.
        self._sample = tokenizer.decode([*words.unknown, *words.opening, *words.closing, *words.answers])
        self._sample_ids = tokenizer(self._sample, add_special_tokens=False)["input_ids"]
        self._config = config
        self._device = device
        self._plain: set[str] = set()
        """URLs of the servers without `/generative_scoring`."""
        self._servers, self._embedders = (
            Endpoints(f"{KEY}.{field}", urls, asked.requests, partial(self._check, longest=longest), share)
            for field, urls, longest in [
                ("endpoints", asked.endpoints, words.longest(config.prompt) + 1),  # and the answer
                ("embedders", asked.embedders, config.prompt.tokens + 1),
            ]
        )

    def score(self, contexts: Sequence[Sequence[str]], items: Sequence[str], pairs: NDArray[np.int64]) -> Floats:
        """See `simulator.judge.Judge`.

        Raises:
            InputError: no server answered in all attempts, or one refused a request or is not of this model.
        """
        found = np.zeros(len(pairs), np.float32)
        for rows, answers in self._servers.ask(self._questions(contexts, items, pairs)):
            found[rows] = answers
        return found

    def embed(self, texts: Sequence[str]) -> Floats:
        """See `simulator.judge.Judge`: by the embedders, or by the transformers backend in this process. Raises as
        `score` does.
        """
        if not self._config.judge.embedders:
            return self._here.embed(texts)
        found = np.zeros((len(texts), self._width), np.float32)
        for rows, vectors in self._embedders.ask(self._texts(texts)):
            found[rows] = vectors
        return found

    @cached_property
    def _here(self) -> TransformersJudge:
        return transformers_judge.load(self._config, self._device)

    def _check(self, server: Server, longest: int) -> None:
        told = server.post("/tokenize", {"prompt": self._sample, "add_special_tokens": False})
        if not isinstance(told, dict) or not isinstance(told.get("max_model_len"), int):
            raise Fault(f"/tokenize: expected tokens and max_model_len, got {brief(str(told))}")
        if told.get("tokens") != self._sample_ids:
            raise InputError(f"{server.key}: {server.url}: its tokenizer is not that of {self._config.judge.name}")
        if told["max_model_len"] < longest:
            raise InputError(
                f"{server.key}: {server.url}: it reads {told['max_model_len']} tokens, a question can have {longest}; "
                "expected a larger --max-model-len, or fewer of simulator.prompt's history, history_tokens or tokens"
            )

    def _questions(
        self, contexts: Sequence[Sequence[str]], items: Sequence[str], pairs: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], Question[Floats]]]:
        """Rows of pairs of one user, and what asks about them; a user's follow one another."""
        config, size = self._config.prompt, self._config.judge.batch_size
        order = np.argsort(pairs[:, 0], kind="stable")
        for of_user in np.split(order, np.flatnonzero(np.diff(pairs[order, 0])) + 1):
            for rows in np.split(of_user, range(size, len(of_user), size)):
                if not len(rows):
                    continue
                history = prompts.fields(self._tokenizer, contexts[pairs[rows[0], 0]], config.history_tokens)
                fields = prompts.fields(self._tokenizer, [items[one] for one in pairs[rows, 1]], config.tokens)
                rest = [prompts.question(self._words, field) for field in fields]
                yield rows, partial(self._ask, context=prompts.context(self._words, history), rest=rest)

    def _ask(self, server: Server, context: Ids, rest: list[Ids]) -> Floats:
        answers = list(self._words.answers)
        if server.url not in self._plain:
            try:
                told = server.post("/generative_scoring", {"query": context, "items": rest, "label_token_ids": answers})
                return _scores(told, len(rest))
            except Refused as refused:
                if refused.status != 404:
                    raise
                self._plain.add(server.url)
        body = {
            "prompt": [context + one for one in rest],
            "max_tokens": 1,
            # Greedy, and without what the model's own settings would add: else these bend processed logits.
            "temperature": 0,
            "repetition_penalty": 1,
            "allowed_token_ids": answers,
            "logprobs": 2,
            "return_tokens_as_token_ids": True,
        }
        return _by_logarithms(server.post("/v1/completions", body), self._words, len(rest))

    def _texts(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Question[Floats]]]:
        """Positions of texts that have tokens, and what asks for their vectors."""
        begin, size = prompts.start(self._tokenizer), self._config.judge.batch_size
        for first in range(0, len(texts), size):
            fields = prompts.fields(self._tokenizer, texts[first : first + size], self._config.prompt.tokens)
            if told := [(first + at, begin + field) for at, field in enumerate(fields) if field]:
                yield [row for row, _ in told], partial(self._embed, ids=[ids for _, ids in told])

    def _embed(self, server: Server, ids: list[Ids]) -> Floats:
        told = server.post("/v1/embeddings", {"input": ids, "encoding_format": "float", "use_activation": False})
        return _vectors(told, (len(ids), self._width))


def _scores(told: Any, count: int) -> Floats:
    """P(Yes) [count] from an answer of /generative_scoring, whose score is that of the first label."""
    found = _read("/generative_scoring", told, "data", count, lambda one: float(one["score"]))
    return _probabilities("/generative_scoring", found)


def _by_logarithms(told: Any, words: Wording, count: int) -> Floats:
    """P(Yes) [count] from an answer of /v1/completions: softmax over the two log-probabilities."""
    names = [f"token_id:{one}" for one in words.answers]

    def margin(one: Any) -> float:
        told = one["logprobs"]["top_logprobs"][0]
        if missing := [name for name in names if told.get(name) is None]:
            raise Fault(
                f"/v1/completions: expected the log-probability of {missing[0]}, got {brief(str(told))}; the server "
                "may need --logprobs-mode processed_logprobs"
            )
        return told[names[0]] - told[names[1]]

    return _probabilities("/v1/completions", expit(_read("/v1/completions", told, "choices", count, margin)))


def _vectors(told: Any, shape: tuple[int, int]) -> Floats:
    """[n, H] from an answer of /v1/embeddings."""
    found = _read("/v1/embeddings", told, "data", shape[0], lambda one: one["embedding"])
    if found.shape != shape or not np.isfinite(found).all():
        raise Fault(f"/v1/embeddings: expected finite vectors [{shape[0]}, {shape[1]}], got {brief(str(found))}")
    return found.astype(np.float32)


def _read(path: str, told: Any, name: str, count: int, value: Callable[[Any], Any]) -> NDArray[np.float64]:
    """The value of each of `count` entries under a name, in the order of their indices 0, 1, ..."""
    try:
        found = {one["index"]: value(one) for one in told[name]}
        if len(told[name]) == count:
            return np.array([found[at] for at in range(count)], np.float64)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        pass
    raise Fault(f"{path}: expected {count} entries of {name}, got {brief(str(told))}")


def _probabilities(path: str, found: NDArray[np.float64]) -> Floats:
    wrong = found[~((found >= 0) & (found <= 1))]  # a NaN, too
    if len(wrong):
        raise Fault(f"{path}: expected probabilities in [0, 1], got {wrong[0]}")
    return found.astype(np.float32)


def load(config: Simulator, device: torch.device, share: Share = ALONE) -> VllmJudge:
    """The judge at the config's servers, which are first asked when it is. Raises as `simulator.judge.load` does, and:

    Raises:
        InputError: no endpoints, or an adapter.
    """
    asked = config.judge
    if not asked.endpoints:
        raise InputError(f"{KEY}.endpoints: expected the URL of a vLLM server, or several")
    if asked.adapter is not None:
        raise InputError(
            f"{KEY}.adapter: servers have their own weights: expected none, and as {KEY}.name the folder they serve, "
            f"into which `tools.simulate merge` merges {asked.adapter}"
        )
    return VllmJudge(*pretrained.tokenizer(asked.name, Path(asked.cache), KEY), config, device, share)
