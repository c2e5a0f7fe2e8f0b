"""What each user took, in order of time, and how much of it an event may know.

An event knows what its user took in a strictly smaller second: neither itself, nor anything of its second, nor what
came later. Held are 28 bytes a training positive; while they are read, some 60.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.backbones.graph import Codes, Graph
from recsys.data.ids import IdMap
from recsys.data.jagged import Jagged
from recsys.data.schema import split_files
from recsys.evaluate.positives import index
from recsys.evaluate.scores import read_groups


@dataclass(frozen=True, eq=False)
class Sequences:
    """The training positives of U users, E of them in all."""

    items: Jagged
    """[U] lists of item codes of a graph, the oldest first; of one second in the order of the files."""
    known: Codes
    """[E] how many items of its list each positive may know."""
    time: NDArray[np.int64]
    """[E] its second."""

    @classmethod
    def read(cls, dataset: Path, graph: Graph) -> "Sequences":
        """Of the graph's users.

        Raises:
            InputError: a file that cannot be read, or without a column.
        """
        users, items = index("user_id", graph.users), index("item_id", graph.items)
        parts = []
        for file in split_files(dataset, "train"):
            for _, table in read_groups(file, ["user_id", "item_id", "timestamp", "label"]):
                liked = table.filter(pc.equal(table["label"], 1))
                parts.append(
                    (users.rows(liked["user_id"]), items.rows(liked["item_id"]), liked["timestamp"].to_numpy())
                )
        user, item, time = (np.concatenate(side) for side in zip(*parts, strict=True))
        return cls.of(user - 1, item - 1, time, len(graph.users))

    @classmethod
    def of(cls, user: Codes, item: Codes, time: NDArray[np.int64], users: int) -> "Sequences":
        """Of events [E] of `users` users, in any order; those of one second stay in theirs."""
        order = np.lexsort((time, user))
        user, time = user[order], time[order]
        lengths = np.bincount(user, minlength=users)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        first = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (time[1:] != time[:-1])])
        second = np.repeat(first, np.diff(np.r_[first, len(user)]))
        return cls(Jagged(item[order].astype(np.int32), offsets), second - offsets[user], time)

    def redrawn(self, random: np.random.Generator) -> "Sequences":
        """With the items of each second in another order, since theirs means nothing."""
        second = self.known + np.repeat(self.items.offsets[:-1], self.items.lengths)
        order = np.lexsort((random.random(len(second)), second))
        return Sequences(Jagged(self.items.values[order], self.items.offsets), self.known, self.time)


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows, and T events in them that are to be told by what is known before them."""

    user: Codes
    """[B]"""
    history: Codes
    """[B, L] filled up with 0."""
    row: Codes
    """[T] window of each event."""
    known: Codes
    """[T] how many items of the window it may know."""
    item: Codes
    """[T] what was taken, int64."""
    event: Codes
    """[T] its position in `Sequences.items.values`."""


def batches(sequences: Sequences, length: int, size: int, random: np.random.Generator) -> Iterator[Batch]:
    """`size` windows a batch, which together have each event once.

    A window has up to `length` / 2 + 1 events of a user, and before them more of the user's positives: of what an event
    may know it is shown `length` at most, and all that is among the `length` / 2 before it. The order is random, but
    windows of about one length lie together, since a batch is as long as its longest.
    """
    windows = _windows(sequences.items.offsets, length)
    order = np.argsort((windows.end - windows.begin) * random.uniform(0.8, 1.25, len(windows.user)))
    for number in random.permutation(-(-len(order) // size)):
        yield _batch(sequences, windows.take(order[number * size : (number + 1) * size]))


@dataclass(frozen=True, eq=False)
class _Windows:
    """Parts of `Sequences.items.values`: all [n]."""

    user: Codes
    begin: Codes
    """The first item."""
    first: Codes
    """The first event, all until `end` being events."""
    end: Codes

    def take(self, some: Codes) -> "_Windows":
        return _Windows(self.user[some], self.begin[some], self.first[some], self.end[some])


def _windows(offsets: Codes, length: int) -> _Windows:
    step = length // 2 + 1
    each = -(-np.diff(offsets) // step)
    user = np.repeat(np.arange(len(each)), each)
    back = np.repeat(np.cumsum(each), each) - np.arange(len(user)) - 1
    end = offsets[user + 1] - back * step
    begin, first = (np.maximum(end - part, offsets[user]) for part in (length + 1, step))
    return _Windows(user, begin, first, end)


def _batch(sequences: Sequences, windows: _Windows) -> Batch:
    taken, events = _ranges(windows.begin, windows.end - 1), _ranges(windows.first, windows.end)
    event, row = events.values, np.repeat(np.arange(len(windows.user)), events.lengths)
    outside = (windows.begin - sequences.items.offsets[windows.user])[row]
    return Batch(
        windows.user,
        padded(Jagged(sequences.items.values[taken.values], taken.offsets)),
        row,
        np.maximum(sequences.known[event] - outside, 0),
        sequences.items.values[event].astype(np.int64),
        event,
    )


def _ranges(start: Codes, stop: Codes) -> Jagged:
    """[n] lists of positions, start to stop."""
    offsets = np.concatenate([[0], np.cumsum(stop - start)])
    return Jagged(np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], stop - start), offsets)


def padded(lists: Jagged) -> Codes:
    """[n, longest] int64, each list filled up at its end with 0."""
    lengths = lists.lengths
    found = np.zeros((len(lengths), int(lengths.max(initial=0))), np.int64)
    found[np.arange(found.shape[1]) < lengths[:, None]] = lists.values
    return found


def newest(lists: Jagged, length: int) -> Jagged:
    """The last `length` of each list."""
    kept = _ranges(np.maximum(lists.offsets[1:] - length, lists.offsets[:-1]), lists.offsets[1:])
    return Jagged(lists.values[kept.values], kept.offsets)


def before(dataset: Path, split: str, graph: Graph, sequences: Sequences) -> Jagged:
    """[U] what each user took before their first positive row of the split, the oldest first: the liked items of that
    row's own history. A user without one has all of their training positives.

    Raises:
        InputError: a file that cannot be read, or without a column.
    """
    users, items = index("user_id", graph.users), index("item_id", graph.items)
    latest = np.iinfo(np.int64).max
    parts = [(np.arange(len(graph.users)), np.full(len(graph.users), latest), sequences.items)]
    columns = ["user_id", "timestamp", "label", "history", "history_label"]
    for file in split_files(dataset, split):
        for _, table in read_groups(file, columns):
            table = table.filter(pc.equal(table["label"], 1)).combine_chunks()
            user, time = users.rows(table["user_id"]) - 1, table["timestamp"].to_numpy()
            first = _first(user, time)
            first = first[user[first] >= 0]
            parts.append((user[first], time[first], _liked(table.take(pa.array(first)), items)))
    user, time = (np.concatenate(side) for side in list(zip(*parts, strict=True))[:2])
    return Jagged.concat([part[2] for part in parts]).take(_first(user, time))


def seconds(dataset: Path, split: str, graph: Graph) -> NDArray[np.int64]:
    """[U] the second of each user's first positive row of the split; -1 for a user without one.

    Raises:
        InputError: a file that cannot be read, or without a column.
    """
    users, found = index("user_id", graph.users), np.full(len(graph.users) + 1, np.iinfo(np.int64).max)
    for file in split_files(dataset, split):
        for _, table in read_groups(file, ["user_id", "timestamp", "label"]):
            table = table.filter(pc.equal(table["label"], 1))
            np.minimum.at(found, users.rows(table["user_id"]), table["timestamp"].to_numpy())
    return np.where(found[1:] == np.iinfo(np.int64).max, -1, found[1:])


def _first(user: Codes, time: Codes) -> Codes:
    """Position of each user's first event, by user."""
    order = np.lexsort((time, user))
    return order[np.unique(user[order], return_index=True)[1]]


def _liked(table: pa.Table, items: IdMap) -> Jagged:
    """The liked items of each row's history; those that the graph does not have are left out."""
    lists = table["history"].combine_chunks()
    item = items.rows(lists.flatten()) - 1
    liked = table["history_label"].combine_chunks().flatten().to_numpy() == 1
    kept = liked & (item >= 0)
    ends = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
    return Jagged(item[kept].astype(np.int32), np.concatenate([[0], np.cumsum(kept)])[ends])
