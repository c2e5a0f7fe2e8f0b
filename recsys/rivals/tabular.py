"""The ranker's features as a matrix for linear models and trees: the same information, in the form such models need.

    tabular = Tabular.fit(encoder)          # one streamed pass over split=train
    table = tabular.table("valid")          # or tabular.parts("test"), one row group at a time

Every id and category comes as its code and as its out-of-fold mean label and count (`recsys.rivals.stats`);
multi-valued features as indicators and as the mean over their values, for all users and for the row's own user; the
history as `recsys.rivals.history` summarises it. Labels are read from split=train only, a row's own never for itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.data.encode import ITEM, USER, Block, Encoder
from recsys.data.jagged import Jagged
from recsys.rivals import history
from recsys.rivals.rows import Doubles, Ints, blocks, logit
from recsys.rivals.stats import Rates, Tallies, folds_of

STRENGTH = 10.0
"""Rows of the global mean in every smoothed mean; the counts stand beside the means, so models can weigh them."""
MOST_INDICATORS = 128
"""A multi-valued feature with more values gets means only, no indicator a value."""
MOST_CROSSED = 4_000_000
"""Users times values: above it a feature gets no mean for each user and value."""


@dataclass(frozen=True)
class Table:
    """N rows for a tabular model.

    Attributes:
        numbers: [N, F] float32, no NaN. codes: [N, C] int32, 0 is unknown.
        history, liked: item table rows of each row's history and whether they were liked ([T] float32).
        multi: codes of each multi-valued feature.
        label: [N] float32. row_id: [N] int64.
    """

    numbers: NDArray[np.float32]
    codes: NDArray[np.int32]
    history: Jagged
    liked: NDArray[np.float32]
    multi: list[Jagged]
    label: NDArray[np.float32]
    row_id: Ints


@dataclass(frozen=True)
class Layout:
    """Names and sizes, in column order: `codes` and `multi` as (name, table rows); `numbers` are names."""

    numbers: list[str]
    codes: list[tuple[str, int]]
    multi: list[tuple[str, int]]


@dataclass(frozen=True)
class _Keys:
    """Ids of one statistic: those of row k are key[offsets[k]:offsets[k + 1]]."""

    name: str
    key: Ints
    offsets: Ints
    within: str = ""
    """The statistic whose mean is the prior of this one; empty for the global mean."""

    @property
    def row(self) -> Ints:
        """[len(key)] the row of each id."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class Tabular:
    """Statistics of the training rows, and the tables they give."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        spec = encoder.spec
        self.codes = [(table.name, table.capacity) for table in [*spec.single, spec.item]]
        self.multi = [(table.name, table.capacity) for table in spec.multi]
        names = [name for name, _ in self.codes]
        self._user = names.index(USER) if USER in names else None
        users = self.codes[self._user][1] if self._user is not None else MOST_CROSSED
        self._crossed = [k for k, (_, values) in enumerate(self.multi) if users * values <= MOST_CROSSED]
        self._traits, self._side = history.traits(encoder), history.side_rows(encoder)
        self._rates: dict[str, Rates] = {}
        self.layout = Layout([], self.codes, self.multi)

    @classmethod
    def fit(cls, encoder: Encoder) -> "Tabular":
        """Count labels by code over split=train, in a stream."""
        made = cls(encoder)
        sizes = dict([*made.codes, *made.multi, ("all", 2)])
        sizes |= {f"{USER} x {made.multi[k][0]}": made._cross_size(k) for k in made._crossed}
        tallies = {name: Tallies(size) for name, size in sizes.items()}
        for block in blocks(encoder, "train"):
            fold, label = folds_of(block.row_id, "train"), block.label.astype(np.float64)
            tallies["all"].add(fold, np.ones(len(block), np.int64), label)
            for keys in made._keys(block):
                tallies[keys.name].add(fold[keys.row], keys.key, label[keys.row])
        made._rates = {name: tally.close() for name, tally in tallies.items()}
        first = next(blocks(encoder, "train"))
        made.layout = Layout(list(made._numbers(first, folds_of(first.row_id, "train"))), made.codes, made.multi)
        return made

    def table(self, split: str) -> Table:
        """A whole split."""
        return _concat(list(self.parts(split)))

    def parts(self, split: str) -> Iterator[Table]:
        """A split, one row group at a time; only a row of `train` has labels held back from it."""
        for block in blocks(self.encoder, split):
            yield self.encode(block, folds_of(block.row_id, split))

    def encode(self, block: Block, fold: Ints) -> Table:
        """Rows as a table; `fold` [n] says which labels each may see (see `recsys.rivals.stats`)."""
        numbers = self._numbers(block, fold)
        return Table(
            numbers=np.stack(list(numbers.values()), axis=1).astype(np.float32),
            codes=self._codes(block).astype(np.int32),
            history=block.history,
            liked=history.liked(self.encoder, block).astype(np.float32),
            multi=self._multis(block),
            label=block.label,
            row_id=block.row_id,
        )

    def _codes(self, block: Block) -> Ints:
        users, items = self.encoder.users.single[block.user], self.encoder.items.single[block.item]
        return np.concatenate([users, items, block.single, block.item_row[:, None]], axis=1)

    def _multis(self, block: Block) -> list[Jagged]:
        sides = [side.take(block.user) for side in self.encoder.users.multi]
        return sides + [side.take(block.item) for side in self.encoder.items.multi] + block.multi

    def _cross_size(self, k: int) -> int:
        assert self._user is not None
        return self.codes[self._user][1] * self.multi[k][1]

    def _keys(self, block: Block) -> Iterator["_Keys"]:
        """Everything whose labels are counted, a mean for a user after the user's own."""
        codes, one_each = self._codes(block), np.arange(len(block) + 1)
        for column, (name, _) in enumerate(self.codes):
            yield _Keys(name, codes[:, column], one_each)
        for k, ((name, size), values) in enumerate(zip(self.multi, self._multis(block), strict=True)):
            yield _Keys(name, values.values, values.offsets)
            if k in self._crossed and self._user is not None:
                user = np.repeat(codes[:, self._user], values.lengths)
                yield _Keys(f"{USER} x {name}", user * size + values.values, values.offsets, USER)

    def _numbers(self, block: Block, fold: Ints) -> dict[str, Doubles]:
        """[n] columns by name."""
        rate = self._rates["all"].mean(fold, np.ones(len(block), np.int64), 0.5, 0.0)
        columns: dict[str, Doubles] = {}
        means: dict[str, Doubles] = {}
        for keys in self._keys(block):
            row, rates = keys.row, self._rates[keys.name]
            prior = means[keys.within] if keys.within else rate
            mean = rates.mean(fold[row], keys.key, prior[row], STRENGTH)
            if keys.within:  # what the user makes of the value, beyond the user's own mean
                columns[f"beyond {keys.name}"] = _average(mean - prior[row], keys.offsets)
            else:
                means[keys.name] = _average(mean, keys.offsets, rate)
                columns[f"mean {keys.name}"] = logit(means[keys.name])
            columns[f"count {keys.name}"] = _average(np.log1p(rates.count(fold[row], keys.key)), keys.offsets)
        if USER in means:
            columns["floor"] = columns[f"mean {USER}"] + columns[f"mean {ITEM}"] - logit(rate)
        columns |= self._plain(block)
        if self.encoder.config.model.history:
            columns |= self._history(block, fold, rate)
        return columns

    def _history(self, block: Block, fold: Ints, rate: Doubles) -> dict[str, Doubles]:
        lengths = block.history.lengths
        # By the row's fold, not the history item's: where the target is in its own history, that keeps its label out.
        quality = self._rates[ITEM].mean(
            np.repeat(fold, lengths), block.history.values, np.repeat(rate, lengths), STRENGTH
        )
        label = history.liked(self.encoder, block)
        return history.summarise(block, label, quality, self._side, self._traits, rate)

    def _plain(self, block: Block) -> dict[str, Doubles]:
        """The dense features as the encoder scales them, and an indicator for each value of a multi-valued feature."""
        sides = self.encoder.users.dense[block.user], self.encoder.items.dense[block.item], block.dense
        dense = np.concatenate(sides, axis=1)
        columns = {f"dense {k}": dense[:, k].astype(np.float64) for k in range(dense.shape[1])}
        for (name, size), values in zip(self.multi, self._multis(block), strict=True):
            known = len(self.encoder.maps[name].ids)  # the rest of the table is room for later
            if known <= MOST_INDICATORS:
                has = np.zeros((len(block), size))
                has[np.repeat(np.arange(len(block)), values.lengths), values.values] = 1.0
                columns |= {f"{name} {value}": has[:, value] for value in range(1, known + 1)}
        return columns


def _average(values: Doubles, offsets: Ints, empty: Doubles | float = 0.0) -> Doubles:
    """[n] means of segments; `empty` where a segment has no value."""
    count = np.diff(offsets)
    return np.where(count > 0, history.segment_sum(values, offsets) / np.maximum(count, 1), empty)


def _concat(parts: list[Table]) -> Table:
    return Table(
        numbers=np.concatenate([part.numbers for part in parts]),
        codes=np.concatenate([part.codes for part in parts]),
        history=Jagged.concat([part.history for part in parts]),
        liked=np.concatenate([part.liked for part in parts]),
        multi=[Jagged.concat(list(column)) for column in zip(*(part.multi for part in parts), strict=True)],
        label=np.concatenate([part.label for part in parts]),
        row_id=np.concatenate([part.row_id for part in parts]),
    )
