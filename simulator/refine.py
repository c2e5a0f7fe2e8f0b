"""Refining (ColdLLM, section 4.2.2): ask a judge about candidates, in rounds, until enough of an item's users qualify.

Each round asks about the next `round` candidates of every item that is still open, a user's questions together. All
that qualify count, a last round's surplus too: those not counted would pass for users who said No.

Legend: n items of this rank, K candidates of each, P pairs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from recsys.config import Config
from recsys.config_simulator import Funnel
from recsys.distributed import Ranks, on_first, together
from simulator import contexts, digests, journal, prompts, texts, threshold
from simulator.asking import Asking, Counts
from simulator.candidates import Candidates, Pool
from simulator.contexts import Contexts, Queries
from simulator.journal import Journal
from simulator.judge import Judge
from simulator.threshold import HeldOut, Threshold

Ask = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""P(Yes) [P] of pairs [P, 2] (user code, item code)."""


@dataclass(frozen=True, eq=False)
class Refined:
    """What a judge said of this rank's candidates."""

    yes: NDArray[np.float32]
    """[n, K] P(Yes), NaN where nobody was asked."""
    judge: bytes
    """Digest of who answered."""
    threshold: Threshold
    counts: Counts
    """Of the rounds."""
    seconds: float
    """Of the rounds."""


def refine(config: Config, judge: Judge, pool: Pool, queries: Queries, found: Candidates, ranks: Ranks) -> Refined:
    """Ask about this rank's candidates. Collective.

    Beside what it is given a rank holds the journal's answers and the texts that its users' histories name.

    Raises:
        InputError: what the judge or the journal raises on any rank, once the others have asked all that they will.
    """
    options = config.simulator.funnel
    folder = journal.folder_of(config)
    on_first(ranks, lambda: journal.tidy(folder))
    known = together(lambda: Journal(folder, digests.of_judge(config.simulator)))
    held = together(lambda: _held_out(config, pool, ranks))
    pairs = np.concatenate([found.pairs(), held.pairs])
    ask = together(lambda: _asking(config, judge, known, pool, queries, pairs, ranks))
    least = _threshold(options, ask, held)
    ask, started = replace(ask, counts=Counts()), time.perf_counter()
    yes = together(lambda: rounds(ask, found, least.value, options))
    return Refined(yes, known.judge, least, ask.counts, time.perf_counter() - started)


def rounds(ask: Ask, found: Candidates, least: float, options: Funnel) -> NDArray[np.float32]:
    """[n, K] P(Yes) of the candidates asked about, NaN of the others; one qualifies with `least` or more."""
    yes: NDArray[np.float32] = np.full(found.users.shape, np.nan, np.float32)
    for start in range(0, yes.shape[1], options.round):
        part = slice(start, start + options.round)
        still = np.flatnonzero((yes >= least).sum(axis=1) < options.qualified)
        some = Candidates(found.items[still], found.users[still][:, part], found.scores[still][:, part])
        answers = np.full(some.users.shape, np.nan, np.float32)
        answers[some.users >= 0] = ask(some.pairs())
        yes[still, part] = answers
    return yes


def _held_out(config: Config, pool: Pool, ranks: Ranks) -> HeldOut:
    """This rank's share of the pairs that the threshold is found by, none where it is given."""
    options, dataset = config.simulator.funnel, Path(config.data.path)
    count = options.calibration if options.threshold is None else 0
    held = threshold.held_out(pool.population, dataset, count, options.seed)
    own = np.array_split(np.lexsort((held.pairs[:, 1], held.pairs[:, 0])), ranks.world_size)[ranks.rank]
    return HeldOut(held.pairs[own], held.label[own])


def _asking(
    config: Config,
    judge: Judge,
    known: Journal,
    pool: Pool,
    queries: Queries,
    pairs: NDArray[np.int64],
    ranks: Ranks,
) -> Asking:
    """For questions about these pairs [P, 2]."""
    prompt, size = config.simulator.prompt, len(pool.population.items)
    taken, users = pool.population.taken, np.unique(pairs[:, 0])

    def told(codes: NDArray[np.int64], template: str, tokens: int) -> list[str]:
        every = [""] * size
        named = pool.population.items.take(codes)
        for code, text in zip(codes, texts.read(Path(config.data.path), template, tokens, named), strict=True):
            every[code] = prompts.clean(text)
        return every

    history = told(np.unique(taken.take(users).values), prompt.history_template, prompt.history_tokens)
    shown = contexts.distinct(taken, np.array([bool(text) for text in history]))
    return Asking(
        judge,
        known,
        Contexts(shown, prompt.history, queries, pool.vectors.items, prompt.seed),
        history,
        told(np.unique(pairs[:, 1]), prompt.template, prompt.tokens),
        config.simulator.funnel.batch_size,
        Counts(),
        None if ranks.is_first else True,
    )


def _threshold(options: Funnel, ask: Asking, held: HeldOut) -> Threshold:
    """That of the config, or by all ranks' pairs. Collective."""
    if options.threshold is not None:
        return Threshold(options.threshold)
    told = np.array([bool(ask.items[code]) for code in held.pairs[:, 1]], bool)
    own = together(lambda: (ask(held.pairs[told]), held.label[told]))
    parts: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = [own] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    yes, label = (np.concatenate(each) for each in zip(*parts, strict=True))
    return together(lambda: threshold.choose(yes, label))
