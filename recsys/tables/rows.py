"""Rows of live, sharded tables: read and written by their global number, from every rank, whatever the sharding.

    rows = Rows(sharded, ranks)
    vectors, state = rows.read("item_id", torch.tensor([7, 1_000_000]))
    rows.write("item_id", torch.tensor([7]), vectors[:1] * 0.5)          # the next forward sees it

Every call is collective: all ranks make it, each with rows of its own (none is allowed). Rows travel to the ranks that
hold them in one exchange, so a call costs what its rows cost, not what the tables would. A write is all or nothing over
all ranks: each has looked at everything it is to write before any of them does.

A row's state is what its fused optimizer keeps of it: row-wise Adagrad's sum, over steps, of the mean squared gradient.
Where a table is cut by columns each piece keeps its own; read is their mean, by width, and write gives it to each.

Legend: n rows named by this rank, D table width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.remote_device import _remote_device

from recsys.distributed import Ranks, agree
from recsys.errors import InputError
from recsys.tables.sharding import Sharded, table_of


@dataclass(frozen=True, eq=False)
class _Shard:
    """Cells [row, row + rows) x [column, column + columns) of a table, on one rank.

    `weight` [rows, columns] and `momentum` [rows] are that rank's memory, shared with the kernel that trains it; None
    on the others.
    """

    number: int
    row: int
    column: int
    rows: int
    columns: int
    rank: int
    weight: Tensor | None
    momentum: Tensor | None


@dataclass(frozen=True)
class _Table:
    rows: int
    dim: int
    dtype: torch.dtype
    shards: list[_Shard]


class Rows:
    """The tables of a sharded model, by row.

    Raises:
        InputError: a table that every rank holds whole (data-parallel).
    """

    def __init__(self, sharded: Sharded, ranks: Ranks) -> None:
        self.ranks = ranks
        states = sharded.states()
        self.tables: dict[str, _Table] = {}
        for name, weight in sharded.model.state_dict().items():
            if table := table_of(name):
                if not isinstance(weight, ShardedTensor):
                    raise InputError(f"table {table}: rows of a table that every rank holds whole are not served")
                self.tables[table] = _table(weight, states.get(table), ranks.rank)

    def read(self, table: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, D] float32 and optimizer state [n] float32 of rows [n] int64. Collective.

        Raises:
            InputError: no such table, or a row out of its range on any rank; on every rank.
        """
        agree(self.ranks, self._wrong(table, rows))
        found = self.tables[table]
        asked = self._send(table, rows)
        answers = [
            torch.cat([torch.zeros(0)] + [_answer(found.shards[k], local) for k, local in _by_shard(pairs)])
            for pairs in asked
        ]
        got = self._exchange(answers, torch.float32)
        vectors, state = torch.zeros(len(rows), found.dim), torch.zeros(len(rows))
        for shard, here, values in self._received(found, rows, got):
            vectors[here, shard.column : shard.column + shard.columns] = values[:, :-1]
            state[here] += values[:, -1] * (shard.columns / found.dim)
        return vectors, state

    def write(
        self, table: str, rows: Tensor, values: Tensor, optimizer_state: Literal["reset", "keep"] | Tensor = "reset"
    ) -> None:
        """Put vectors [n, D] into rows [n] int64, all of them on all ranks or none. Collective.

        Args:
            optimizer_state: of one kind on all ranks; `reset` to that of an untrained row, `keep`, or [n] of its own.

        Raises:
            InputError: no such table; on any rank a row out of range, a row named twice (also by two ranks), a vector
                or state that is not finite in the table's type or of another shape; on every rank, nothing written.
        """
        agree(self.ranks, self._wrong(table, rows) or _wrong_values(self.tables[table], rows, values, optimizer_state))
        found = self.tables[table]
        asked = self._send(table, rows)
        agree(self.ranks, _named_twice(table, found, torch.cat(asked)))
        own = optimizer_state if isinstance(optimizer_state, Tensor) else torch.zeros(len(rows))
        sent = [
            torch.cat(
                [torch.zeros(0)] + [_piece(shard, here, values, own) for shard, here in self._of(found, rows, rank)]
            )
            for rank in range(self.ranks.world_size)
        ]
        keep = isinstance(optimizer_state, str) and optimizer_state == "keep"
        for pairs, flat in zip(asked, self._exchange(sent, torch.float32), strict=True):
            for k, local in _by_shard(pairs):
                size = len(local) * (found.shards[k].columns + 1)
                _put(found.shards[k], local, flat[:size].view(len(local), -1), keep)
                flat = flat[size:]

    def _wrong(self, table: str, rows: Tensor) -> str | None:
        if table not in self.tables:
            return f"table {table!r}: expected one of {', '.join(self.tables)}"
        if rows.dtype != torch.int64 or rows.ndim != 1:
            return f"table {table}: expected rows [n] int64, found {list(rows.shape)} {rows.dtype}"
        outside = (rows < 0) | (rows >= self.tables[table].rows)
        if outside.any():
            return f"table {table}: row {int(rows[outside][0])}: it has rows 0 to {self.tables[table].rows - 1}"
        return None

    def _of(self, table: _Table, rows: Tensor, rank: int) -> Iterator[tuple[_Shard, Tensor]]:
        """The shards that a rank holds any of `rows` in, in order, with the places [m] of those rows."""
        for shard in table.shards:
            if shard.rank == rank:
                here = ((rows >= shard.row) & (rows < shard.row + shard.rows)).nonzero().squeeze(1)
                if len(here):
                    yield shard, here

    def _send(self, table: str, rows: Tensor) -> list[Tensor]:
        """What every rank asks of this one: (shard, row within it) [m, 2], by shard."""
        found = self.tables[table]
        asked = []
        for rank in range(self.ranks.world_size):
            pairs = [torch.zeros(0, 2, dtype=torch.int64)]
            for shard, here in self._of(found, rows, rank):
                number = torch.full((len(here),), shard.number)
                pairs.append(torch.stack([number, rows[here] - shard.row], 1))
            asked.append(torch.cat(pairs).flatten())
        return [pairs.view(-1, 2) for pairs in self._exchange(asked, torch.int64)]

    def _received(self, table: _Table, rows: Tensor, got: list[Tensor]) -> Iterator[tuple[_Shard, Tensor, Tensor]]:
        """Shard, places [m] among `rows`, and vectors with the state behind them [m, columns + 1]."""
        for rank, flat in enumerate(got):
            for shard, here in self._of(table, rows, rank):
                size = len(here) * (shard.columns + 1)
                yield shard, here, flat[:size].view(len(here), -1)
                flat = flat[size:]

    def _exchange(self, parts: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Send `parts[r]` (1-D) to rank r; what each rank has sent here."""
        device = self.ranks.device
        ours = torch.tensor([len(part) for part in parts], device=device)
        theirs = torch.empty_like(ours)
        dist.all_to_all_single(theirs, ours)
        got = torch.empty(int(theirs.sum()), dtype=dtype, device=device)
        dist.all_to_all_single(got, torch.cat(parts).to(device, dtype), theirs.tolist(), ours.tolist())
        return list(got.cpu().split(theirs.tolist()))


def _table(weight: ShardedTensor, momentum: object, rank: int) -> _Table:
    rows, dim = weight.size()
    held = {tuple(shard.metadata.shard_offsets): shard.tensor for shard in weight.local_shards()}
    sums = {}
    if isinstance(momentum, ShardedTensor):
        sums = {shard.metadata.shard_offsets[0]: shard.tensor for shard in momentum.local_shards()}
    told = sorted(weight.metadata().shards_metadata, key=lambda shard: tuple(shard.shard_offsets))
    columns = sorted({shard.shard_offsets[1] for shard in told})
    shards = []
    for number, shard in enumerate(told):
        (row, column), (tall, wide) = shard.shard_offsets, shard.shard_sizes
        assert isinstance(shard.placement, _remote_device)
        owner = shard.placement.rank() or 0
        # torchrec numbers the states of a table's column shards one behind the other.
        state = sums.get(columns.index(column) * rows + row) if owner == rank else None
        shards.append(_Shard(number, row, column, tall, wide, owner, held.get((row, column)), state))
    return _Table(rows, dim, weight.dtype, shards)


def _by_shard(pairs: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Shard and rows within it [m], of (shard, row) [M, 2] in order of shards."""
    numbers, counts = pairs[:, 0].unique_consecutive(return_counts=True)
    yield from zip(numbers.tolist(), pairs[:, 1].split(counts.tolist()), strict=True)


def _answer(shard: _Shard, local: Tensor) -> Tensor:
    """[m * (columns + 1)] float32: vectors, each with its state behind it."""
    assert shard.weight is not None
    local = local.to(shard.weight.device)
    state = torch.zeros(len(local)) if shard.momentum is None else shard.momentum[local]
    return torch.cat([shard.weight[local].float(), state.float().to(local.device).unsqueeze(1)], 1).flatten().cpu()


def _piece(shard: _Shard, here: Tensor, values: Tensor, state: Tensor) -> Tensor:
    """[m * (columns + 1)] float32: what goes into a shard, in the form of `_answer`."""
    part = values[here, shard.column : shard.column + shard.columns]
    return torch.cat([part.float(), state[here].float().unsqueeze(1)], 1).flatten()


def _put(shard: _Shard, local: Tensor, piece: Tensor, keep: bool) -> None:
    assert shard.weight is not None
    with torch.no_grad():
        local, piece = local.to(shard.weight.device), piece.to(shard.weight.device)
        shard.weight[local] = piece[:, :-1].to(shard.weight.dtype)
        if shard.momentum is not None and not keep:
            shard.momentum[local] = piece[:, -1].to(shard.momentum.dtype)


def _wrong_values(table: _Table, rows: Tensor, values: Tensor, state: object) -> str | None:
    if tuple(values.shape) != (len(rows), table.dim) or not values.is_floating_point():
        return f"expected vectors {(len(rows), table.dim)}, found {tuple(values.shape)} {values.dtype}"
    bad = ~values.to(table.dtype).isfinite().all(1)
    if bad.any():
        return f"row {int(rows[bad][0])}: expected a finite vector in {table.dtype}"
    if isinstance(state, str):
        return (
            None if state in ("reset", "keep") else f"optimizer_state {state!r}: expected 'reset', 'keep' or a tensor"
        )
    if not isinstance(state, Tensor) or state.shape != rows.shape or not (state.isfinite() & (state >= 0)).all():
        return f"expected optimizer state [{len(rows)}], finite and not negative"
    return None


def _named_twice(name: str, table: _Table, pairs: Tensor) -> str | None:
    """Of the (shard, row) [M, 2] that all ranks ask of this one."""
    distinct, counts = pairs.unique(dim=0, return_counts=True)
    if (counts > 1).any():
        number, local = distinct[counts > 1][0].tolist()
        return f"table {name}: row {local + table.shards[number].row} is named twice"
    return None
