"""Rows `judge` and `judge-shared`: judged pairs a second, against the bare forward of the same questions, one a row.

Ours draws the contexts, looks the questions up, tokenizes, asks and writes the journal; the bound has the questions as
token ids, sorted by length and padded in batches of as many, and wants the last layer alone. SmolLM2 as the config has
it, on histories of 20 titles. In `judge` each user has one item in a call, in `judge-shared` eight, whose history ours
reads once.
"""

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from recsys.bench.frame import Measured, alternated
from recsys.config import Config
from recsys.config_simulator import Simulator
from recsys.content import pretrained
from recsys.data.jagged import Jagged
from recsys.distributed import Ranks
from simulator import prompts
from simulator.asking import Asking, Counts
from simulator.contexts import Contexts, Queries
from simulator.journal import Journal
from simulator.transformers_judge import TransformersJudge

HISTORY, FILMS, WIDTH, ROUNDS = 20, 400, 32, 3
ALONE, SHARED = (64, 1), (16, 8)
"""Users, and items of each, in a turn."""
REQUIRED, SHARED_REQUIRED = 0.9, 2.5


def measure(config: Config, ranks: Ranks) -> Measured:
    """One item a user."""
    return compare(*_loaded(config, ranks), *ALONE, ROUNDS, REQUIRED)


def measure_shared(config: Config, ranks: Ranks) -> Measured:
    """Eight items a user."""
    return compare(*_loaded(config, ranks), *SHARED, ROUNDS, SHARED_REQUIRED)


def _loaded(config: Config, ranks: Ranks) -> tuple[Any, Any, Simulator]:
    asked = config.simulator.judge
    dtype = torch.bfloat16 if asked.bf16 else torch.float32
    model, tokenizer = pretrained.load(asked.name, "text", dtype, Path(asked.cache), "simulator.judge")
    return model.to(ranks.device).eval(), tokenizer, config.simulator


def compare(
    model: Any, tokenizer: Any, options: Simulator, users: int, items: int, rounds: int, required: float
) -> Measured:
    """Rates in pairs a second of users with so many items each."""
    words = prompts.wording(tokenizer, options.prompt)
    judge = TransformersJudge(model, tokenizer, words, options)
    contexts, pairs, texts = _draw(users, items)
    prompted = _questions(tokenizer, words, options, contexts, pairs, texts)
    batches = _batches(prompted, options.judge.batch_size, model.device)
    turn = count()
    with tempfile.TemporaryDirectory() as folder:

        def ours() -> None:
            journal = Journal(Path(folder) / str(next(turn)), b"bench".ljust(16))
            Asking(judge, journal, contexts, texts, texts, len(pairs), Counts(), True)(pairs)

        made: dict[str, Callable[[], object]] = {"ours": ours, "forward": lambda: _forward(model, batches)}
        for contender in made.values():
            contender()
        detail = {
            "items a user": items,
            "tokens a pair": sum(map(len, prompted)) / len(prompted),
            "batch_size": options.judge.batch_size,
        }
        return alternated(made, len(pairs), "pairs/s", required, rounds, detail)


def _draw(users: int, items: int) -> tuple[Contexts, NDArray[np.int64], list[str]]:
    """Histories, pairs of users and films, and the films' texts, of words that a tokenizer knows whole."""
    draws = np.random.default_rng(0)
    words = "Story Young Woman Man Family City War Love Life House School Friend Night Past World Secret Crime"
    titles = [" ".join(draws.choice(words.split(), draws.integers(1, 5))) for _ in range(FILMS)]
    texts = [f"{title} ({year})" for title, year in zip(titles, draws.integers(1930, 2001, FILMS), strict=True)]
    histories = Jagged(draws.integers(0, FILMS, 5 * HISTORY * users), np.arange(users + 1) * 5 * HISTORY)
    vectors = draws.normal(size=(FILMS, WIDTH)).astype(np.float32)
    contexts = Contexts(histories, HISTORY, Queries.grouped(vectors, vectors[:1]), vectors)
    films = np.concatenate([draws.choice(FILMS, items, replace=False) for _ in range(users)])
    return contexts, np.stack([np.repeat(np.arange(users), items), films], axis=1), texts


def _questions(
    tokenizer: Any,
    words: prompts.Wording,
    options: Simulator,
    contexts: Contexts,
    pairs: NDArray[np.int64],
    texts: list[str],
) -> list[prompts.Ids]:
    """The whole of each question as token ids."""
    fields = prompts.fields(tokenizer, texts, options.prompt.tokens)
    which, shown = contexts.of(pairs)
    histories = [[fields[code] for code in shown.slice(at, at + 1).values] for at in range(len(shown.lengths))]
    told = [prompts.context(words, history) for history in histories]
    return [told[at] + prompts.question(words, fields[item]) for at, item in zip(which, pairs[:, 1], strict=True)]


def _batches(questions: list[prompts.Ids], size: int, device: torch.device) -> list[Tensor]:
    """Token ids [B, T], padded on the right, where a causal model needs no mask."""
    ordered = sorted(questions, key=len)
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [pad_sequence([torch.tensor(one) for one in part], batch_first=True).to(device) for part in parts]


@torch.inference_mode()
def _forward(model: Any, batches: list[Tensor]) -> None:
    for batch in batches:
        last = model.base_model(input_ids=batch, use_cache=False).last_hidden_state
    float(last[0, 0, 0])  # an accelerator is done with all of them then
