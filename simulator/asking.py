"""Questions about pairs of codes: answered by the journal, and by the judge where it does not know."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from simulator import digests
from simulator.contexts import Contexts
from simulator.journal import Journal, keys
from simulator.judge import Judge


@dataclass(slots=True)
class Counts:
    """Of all questions so far."""

    judged: int = 0
    """Answered by the judge; the others by the journal, or with an equal question of the same call."""
    contexts: int = 0
    """Contexts of all of them, those of each call counted anew: what was shared by several questions."""


@dataclass(frozen=True, eq=False)
class Asking:
    """P(Yes) by one judge. Beside its arguments it needs memory for one call of `size` questions."""

    judge: Judge
    journal: Journal
    contexts: Contexts
    history: Sequence[str]
    """[I] cleaned texts of items in a history."""
    items: Sequence[str]
    """[I] cleaned texts of the items asked about."""
    size: int
    counts: Counts
    quiet: bool | None = None
    """True shows no progress."""

    def __call__(self, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        """[P] P(Yes) of pairs [P, 2] (user code, item code). What a call of the judge answered is in the journal before
        the next one is made.

        Raises:
            InputError: the judge's, or the journal's.
        """
        found = np.empty(len(pairs), np.float32)
        order = self.contexts.order(pairs)
        with tqdm(total=len(pairs), desc="ask", unit="pair", leave=False, disable=self.quiet) as bar:
            for start in range(0, len(order), self.size):
                rows = order[start : start + self.size]
                found[rows] = self._answers(pairs[rows])
                bar.update(len(rows))
        return found

    def _answers(self, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        context, histories = self._histories(pairs)
        items, item = np.unique(pairs[:, 1], return_inverse=True)
        told = [self.items[code] for code in items]
        asked = keys(digests.of_lists(histories)[context], digests.of_texts(told)[item])
        yes = self.journal.find(asked)
        unknown = np.flatnonzero(np.isnan(yes))
        distinct, first, same = np.unique(asked[unknown], return_index=True, return_inverse=True)
        rows = unknown[first]
        self.counts.judged += len(rows)
        self.counts.contexts += len(histories)
        if len(rows):
            answers = self.judge.score(histories, told, np.stack([context[rows], item[rows]], axis=1))
            self.journal.append(distinct, answers)
            yes[unknown] = answers[same]
        return yes

    def _histories(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[list[str]]]:
        """[P] the number of each pair's context, and the texts of each: equal ones are one."""
        which, shown = self.contexts.of(pairs)
        texts = [self.history[code] for code in shown.values]
        lists = [texts[start:stop] for start, stop in zip(shown.offsets[:-1], shown.offsets[1:], strict=True)]
        number: dict[tuple[str, ...], int] = {}
        place = np.array([number.setdefault(tuple(one), len(number)) for one in lists], np.int64)
        return place[which], [list(one) for one in number]
