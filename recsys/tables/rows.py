"""Rows of live, sharded tables: read and written by their global number, from every rank, whatever the sharding.

    rows = Rows(sharded, ranks)
    vectors, state = rows.read("item_id", torch.tensor([7, 1_000_000]))
    rows.write("item_id", torch.tensor([7]), vectors[:1] * 0.5)          # the next forward sees it

Every call is collective: all ranks make it for the same table, each with rows of its own (none is allowed). Rows travel
to the ranks that hold them in one exchange, so a call costs what its rows cost, not what the tables would. A write is
all or nothing over all ranks: each has looked at everything it is to write before any of them does.

A row's state is what its optimizer keeps of it: row-wise Adagrad's sum, over steps, of the mean squared gradient. Where
a table is cut by columns each piece keeps its own; read is their mean, and write gives it to each. A data-parallel
table is read from the rank's own copy and written into all of them.

Legend: n rows named by this rank, m rows that go to one shard, D table width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from recsys.distributed import Ranks, agree
from recsys.errors import InputError
from recsys.tables.layout import Shard, Table
from recsys.tables.sharding import Sharded, table_of

State = Literal["reset", "keep"] | Tensor


_KINDS = ("read", "reset", "keep", "set")


@dataclass(frozen=True, eq=False)
class _Named:
    """Rows of one shard that this rank names: their places [m] among all its rows (None: all of them, in order), and
    their span in what it sends to the ranks that hold them, or gets from there."""

    shard: Shard
    places: Tensor | None
    span: slice

    @property
    def columns(self) -> slice:
        return slice(self.shard.column, self.shard.column + self.shard.columns)

    def of(self, values: Tensor) -> Tensor:
        """Its part of values [n, ...]."""
        return values if self.places is None else values.index_select(0, self.places)


@dataclass(frozen=True, eq=False)
class _Held:
    """Rows of a shard of this rank's that some rank names: their numbers [m] within it, and their span in the above."""

    shard: Shard
    rows: Tensor
    span: slice


@dataclass(frozen=True, eq=False)
class _Call:
    """One call's rows at both ends, by the rank at the other; `to` and `by` count them for each rank."""

    named: list[_Named]
    held: list[_Held]
    to: list[int]
    by: list[int]


class Rows:
    """The tables of a sharded model, by row. Rows and values may lie on any device; answers lie on that of the rows."""

    def __init__(self, sharded: Sharded, ranks: Ranks) -> None:
        self.ranks = ranks
        states = sharded.states()
        weights = {name: weight for key, weight in sharded.model.state_dict().items() if (name := table_of(key))}
        self.tables = {name: Table.of(weights[name], states.get(name), ranks) for name in sorted(weights)}
        self._most = max(len(t.of_rank(rank)) for t in self.tables.values() for rank in range(ranks.world_size))

    def read(self, table: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, D] float32 and optimizer state [n] float32 of rows [n] int64. Collective.

        Raises:
            InputError: no such table, or a row out of its range on any rank; on every rank.
        """
        call = self._route(table, rows, self._wrong_rows(table, rows), "read")
        found = self.tables[table]
        answers = torch.empty(sum(call.by), found.columns, dtype=found.dtype, device=self.ranks.device)
        sums = torch.empty(len(answers), device=answers.device)
        for held in call.held:
            torch.index_select(held.shard.weight, 0, held.rows, out=answers[held.span])
            torch.index_select(held.shard.state, 0, held.rows, out=sums[held.span])
        answers, sums = self._exchange(answers, call.by, call.to), self._exchange(sums, call.by, call.to)
        if not _as_they_are(call.named, found):
            answers, sums = _assembled(call.named, answers, sums, len(rows), found.dim)
        return answers.to(rows.device, torch.float32), sums.to(rows.device)

    def write(self, table: str, rows: Tensor, values: Tensor, optimizer_state: State = "reset") -> None:
        """Put vectors [n, D] into rows [n] int64, all of them on all ranks or none. Collective.

        Args:
            optimizer_state: of one kind on all ranks; `reset` to that of an untrained row, `keep`, or [n] of its own.

        Raises:
            InputError: no such table; on any rank a row out of range, a row named twice (also by two ranks), a vector
                or state that is not finite in the table's type or of another shape; on every rank, nothing written.
        """
        call = self._checked(table, rows, values, optimizer_state)
        found = self.tables[table]
        values = values.detach().to(self.ranks.device, found.dtype)
        vectors = self._exchange(_in_parts(call.named, values, found, sum(call.to)), call.to, call.by)
        if isinstance(optimizer_state, Tensor):
            state = optimizer_state.detach().to(self.ranks.device, torch.float32)
            state = self._exchange(torch.cat([state[:0], *(part.of(state) for part in call.named)]), call.to, call.by)
        for held in call.held:
            _put(held.shard.weight, held.rows, vectors[held.span])
            if isinstance(optimizer_state, Tensor):
                held.shard.state.index_copy_(0, held.rows, state[held.span])
            elif optimizer_state == "reset":
                held.shard.state.index_fill_(0, held.rows, 0.0)

    def wrong(self, table: str, rows: Tensor, values: Tensor, optimizer_state: State = "reset") -> str | None:
        """What `write` would refuse of this rank's part, but for rows named twice; None is nothing. Not collective."""
        wrong = self._wrong_rows(table, rows)
        if not wrong and (found := _wrong_values(self.tables[table], rows, values, optimizer_state)):
            wrong = f"table {table}: {found}"
        return wrong

    def _checked(self, table: str, rows: Tensor, values: Tensor, state: State) -> _Call:
        wrong = self.wrong(table, rows, values, state)
        kind = state if isinstance(state, str) and state in _KINDS else "set"
        call = self._route(table, rows, wrong, kind)
        twice = _named_twice(call.held)
        wrong = None if twice is None else f"table {table}: row {twice} is named twice"
        if self._anywhere(wrong is not None):
            agree(self.ranks, wrong)
        return call

    def _wrong_rows(self, table: str, rows: Tensor) -> str | None:
        if table not in self.tables:
            return f"table {table!r}: expected one of {', '.join(self.tables)}"
        if rows.dtype != torch.int64 or rows.ndim != 1:
            return f"table {table}: expected rows [n] int64, found {list(rows.shape)} {rows.dtype}"
        count = self.tables[table].rows
        if len(rows):
            for row in torch.stack(rows.aminmax()).tolist():
                if not 0 <= row < count:
                    return f"table {table}: row {row}: it has rows 0 to {count - 1}"
        return None

    def _anywhere(self, flag: bool) -> bool:
        """Whether any rank says so. Collective."""
        if self.ranks.world_size == 1:
            return flag
        said = torch.tensor(int(flag))
        dist.all_reduce(said)
        return bool(said)

    def _route(self, table: str, rows: Tensor, wrong: str | None, kind: str) -> _Call:
        """Tell each rank which rows of its shards this one names, and hear the same. Collective.

        Raises:
            InputError: something is `wrong` on any rank, or they make different calls; on every rank.
        """
        if self.ranks.world_size == 1 and wrong:
            raise InputError(wrong)
        found = [] if wrong else _found(self.tables[table], rows.to(self.ranks.device), kind, self.ranks.rank)
        spans = _spans(len(local) for _, _, local in found)
        named = [_Named(shard, places, span) for (shard, places, _), span in zip(found, spans, strict=True)]
        if self.ranks.world_size == 1:
            held = [_Held(shard, local, span) for (shard, _, local), span in zip(found, spans, strict=True)]
            count = [sum(len(local) for _, _, local in found)]
            return _Call(named, held, count, count)
        counts = torch.zeros(self.ranks.world_size, self._most, dtype=torch.int64)
        for shard, _, local in found:
            counts[shard.rank, shard.place] = len(local)
        theirs = self._counts(counts, wrong, table, kind)
        to, by = counts.sum(1).tolist(), theirs.sum(1).tolist()
        got = self._exchange(torch.cat([rows[:0].to(self.ranks.device), *(local for _, _, local in found)]), to, by)
        own = self.tables[table].of_rank(self.ranks.rank)
        sizes = theirs[:, : len(own)].flatten().tolist()
        parts = zip(own * self.ranks.world_size, _spans(sizes), strict=True)
        return _Call(named, [_Held(shard, got[span], span) for shard, span in parts if span.stop > span.start], to, by)

    def _counts(self, counts: Tensor, wrong: str | None, table: str, kind: str) -> Tensor:
        """[ranks, shards a rank] rows that each rank names of this one's shards, from `counts`, those of this one."""
        number = -1 if wrong else list(self.tables).index(table)
        ours = torch.tensor([bool(wrong), number, _KINDS.index(kind)]).expand(len(counts), 3)
        sent = torch.cat([ours, counts], 1)
        told = torch.empty_like(sent)
        dist.all_to_all_single(told, sent)
        if told[:, 0].any():
            agree(self.ranks, wrong)
        if (told[:, 1:3] != told[0, 1:3]).any():
            agree(self.ranks, f"table {table}: not all ranks make the same call")
        return told[:, 3:]

    def _exchange(self, values: Tensor, to: list[int], by: list[int]) -> Tensor:
        """Send each rank its rows [to[rank], ...] of `values`; [by[rank], ...] from each, by rank. Collective."""
        if self.ranks.world_size == 1:
            return values
        got = values.new_empty(sum(by), *values.shape[1:])
        dist.all_to_all_single(got, values, by, to)
        return got


def _found(table: Table, rows: Tensor, kind: str, rank: int) -> list[tuple[Shard, Tensor | None, Tensor]]:
    """The shards that hold any of `rows` [n], by rank: with the places of those (None: all), and rows within it [m]."""
    shards = table.of_rank(rank) if table.copied and kind == "read" else table.shards
    if len(table.starts) == 1:
        return [(shard, None, rows) for shard in shards]
    order = _order(rows)
    rows = rows[order]
    ends = [*torch.searchsorted(rows, torch.tensor(table.starts, device=rows.device)).tolist(), len(rows)]
    found: list[tuple[Shard, Tensor | None, Tensor]] = []
    for shard in shards:
        k = table.starts.index(shard.row)
        if ends[k] < ends[k + 1]:
            here = slice(ends[k], ends[k + 1])
            found.append((shard, order[here], rows[here] - shard.row))
    return found


def _order(rows: Tensor) -> Tensor:
    # numpy sorts by vector instructions, at a third of torch's time.
    return rows.argsort() if rows.is_cuda else torch.from_numpy(np.argsort(rows.numpy()))


def _spans(sizes: Iterable[int]) -> list[slice]:
    ends = [0, *accumulate(sizes)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _as_they_are(named: list[_Named], table: Table) -> bool:
    """Whether what travels is [n, D], all rows in the order in which they are named."""
    return len(named) == 1 and named[0].places is None and table.columns == table.dim


def _in_parts(named: list[_Named], values: Tensor, table: Table, count: int) -> Tensor:
    """[count, columns of a shard] from values [n, D]."""
    if _as_they_are(named, table):
        return values.contiguous()
    parts = values.new_empty(count, table.columns)
    for part in named:
        if part.places is None:
            parts[part.span] = values[:, part.columns]
        else:
            torch.index_select(values[:, part.columns], 0, part.places, out=parts[part.span])
    return parts


def _assembled(named: list[_Named], answers: Tensor, sums: Tensor, n: int, dim: int) -> tuple[Tensor, Tensor]:
    """Vectors [n, D] and state [n] from what the shards have of them."""
    vectors, state = answers.new_empty(n, dim), sums.new_zeros(n)
    for part in named:
        share = part.shard.columns / dim
        if part.places is None:
            vectors[:, part.columns] = answers[part.span]
            state += share * sums[part.span]
        else:
            _put(vectors[:, part.columns], part.places, answers[part.span])
            state.index_add_(0, part.places, sums[part.span], alpha=share)
    return vectors, state


def _put(target: Tensor, rows: Tensor, values: Tensor) -> None:
    """target[rows] = values, [m, columns]; no row comes twice."""
    if target.is_cuda or not target.is_contiguous():
        target.index_copy_(0, rows, values)
    else:
        # torch writes cell by cell; numpy, told that a row is one record, moves it whole, in a quarter of the time.
        record = f"V{target.shape[1] * target.element_size()}"
        target.numpy().view(record)[:, 0][rows.numpy()] = values.numpy().view(record)[:, 0]


def _wrong_values(table: Table, rows: Tensor, values: Tensor, state: object) -> str | None:
    if tuple(values.shape) != (len(rows), table.dim) or not values.is_floating_point():
        return f"expected vectors {(len(rows), table.dim)}, found {tuple(values.shape)} {values.dtype}"
    # The extremes are not finite where any value is not; rounding to the table's type keeps their order.
    if len(rows) and not torch.stack(values.detach().aminmax()).to(table.dtype).isfinite().all():
        bad = ~values.to(table.dtype).isfinite().all(1)
        return f"row {int(rows[bad.to(rows.device)][0])}: expected a finite vector in {table.dtype}"
    if isinstance(state, str):
        return None if state in _KINDS[1:3] else f"optimizer_state {state!r}: expected 'reset', 'keep' or a tensor"
    if not isinstance(state, Tensor) or state.shape != rows.shape or not state.is_floating_point():
        return f"expected optimizer state [{len(rows)}] of floats"
    if not (state.float().isfinite() & (state >= 0)).all():
        bad = ~(state.float().isfinite() & (state >= 0))
        return f"row {int(rows[bad.to(rows.device)][0])}: expected optimizer state, finite and not negative"
    return None


def _named_twice(held: list[_Held]) -> int | None:
    """A row that is named twice among all that ranks name of this one's shards."""
    for shard in {part.shard: None for part in held}:
        rows = torch.cat([part.rows for part in held if part.shard is shard])
        rows = rows[_order(rows)] if rows.is_cuda else torch.from_numpy(np.sort(rows.numpy()))
        same = rows[1:] == rows[:-1]
        if same.any():
            return int(rows[1:][same][0]) + shard.row
    return None
