"""Pairs of users and warm items that the judge is asked about: what the filter is coupled to (ColdLLM, eq. 17).

The answers are in the simulator's journal, so a filter that is trained anew asks nothing twice.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.data.jagged import Jagged
from simulator import contexts, digests, journal, prompts, texts
from simulator.asking import Asking, Counts
from simulator.contexts import Contexts, Queries
from simulator.journal import Journal
from simulator.judge import Judge
from simulator.population import Population
from simulator.samples import Codes, Interactions

EACH = 8
"""Pairs of a user: half taken, half not; they share the history, which the judge reads once."""


@dataclass(frozen=True, eq=False)
class Coupled:
    """P judged pairs, by user and item code [P] int64, and P(Yes) [P] float32."""

    user: Codes
    item: Codes
    yes: NDArray[np.float32]

    @property
    def answers(self) -> NDArray[np.float32]:
        """[P] 1 where P(Yes) is above the median of these pairs, else 0: an untuned judge says Yes to all or none."""
        return (self.yes > np.median(self.yes)).astype(np.float32)


NONE = Coupled(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def ask(config: Config, judge: Judge, population: Population, known: Interactions) -> Coupled:
    """The answers about `simulator.filter.coupled` pairs of `known`. A user is shown a draw of their history, without
    the items asked about: those would answer.

    In memory are the texts of all items, and the journal's answers.

    Raises:
        InputError: the items have no column of the prompt's templates, or what the judge or the journal raises.
    """
    options, dataset = config.simulator, Path(config.data.path)
    user, item = draw(known, options.filter.coupled, options.filter.seed)
    prompt, folder = options.prompt, journal.folder_of(config)
    history, told = (
        [prompts.clean(text) for text in texts.read(dataset, template, tokens, population.items)]
        for template, tokens in ((prompt.history_template, prompt.history_tokens), (prompt.template, prompt.tokens))
    )
    shown = contexts.distinct(_without(population, user, item), np.array([bool(text) for text in history]))
    vectors = np.zeros((len(told), 0), np.float32)
    journal.tidy(folder)
    asking = Asking(
        judge,
        Journal(folder, digests.of_judge(options)),
        Contexts(shown, prompt.history, Queries.random(len(told)), vectors, prompt.seed),
        history,
        told,
        options.funnel.batch_size,
        Counts(),
    )
    return Coupled(user, item, asking(np.stack([user, item], axis=1)))


def draw(known: Interactions, count: int, seed: int) -> tuple[Codes, Codes]:
    """At most `count` users and items, sorted by user: of users drawn at random, half they took, half they did not."""
    random = np.random.default_rng([seed, 1])
    takers, items = known.ends()
    each = np.sort(random.permutation(np.unique(takers))[: count // EACH])
    user, item = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for one in each:
        took = items[slice(*np.searchsorted(takers, [one, one + 1]))]
        took = random.permutation(took)[: EACH // 2]
        picked = np.unique(np.append(took, known.other_items(np.full(len(took), one), random)))
        user.append(np.full(len(picked), one))
        item.append(picked)
    return np.concatenate(user), np.concatenate(item)


def _without(population: Population, user: Codes, item: Codes) -> Jagged:
    """What each user took, as item codes, less these pairs; nothing of users in none of them."""
    taken, stride = population.taken, len(population.items)
    owner = np.repeat(np.arange(len(taken.lengths)), taken.lengths)
    kept = np.isin(owner, user) & ~np.isin(owner * stride + taken.values, user * stride + item)
    return Jagged(taken.values[kept], np.searchsorted(owner[kept], np.arange(len(taken.offsets))))
