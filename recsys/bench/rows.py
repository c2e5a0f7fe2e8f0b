"""Rows `rows-write`, `rows-read` and `rows-size`: single rows of a live table, by `recsys.tables.rows`.

`rows-write`, `rows-read`: 10,000 rows x 64 at random places of a table of 10 million, with their optimizer state, a
fresh draw each time (what is slow about them is memory that no cache holds), against the bare indexed copy of the
vectors of such rows alone, in the same memory. The ways to write that copy are all measured; the fastest is the bound.

`rows-size`: the same call, with the same row numbers, on that table against one of 100 thousand rows: what it costs may
depend on the rows alone. Rows drawn from all over a large table cost more than rows of a small one whoever copies them,
since they miss the caches: `detail` tells that ratio of ours and of the bare copy.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor

from recsys.bench.frame import Measured, alternated
from recsys.config import Config, Model
from recsys.data.encode import InputSpec, TableSpec
from recsys.distributed import Ranks
from recsys.model.ranker import Ranker
from recsys.tables.rows import Rows
from recsys.tables.sharding import shard

LARGE, SMALL, DIM, NAMED = 10_000_000, 100_000, 64, 10_000
ROUNDS, TURNS = 15, 5
"""Rounds, and calls in a contender's turn of each."""
REQUIRED, SIZE_REQUIRED = 0.5, 0.8


class Tables:
    """A live model with a large and a small table, and draws of their rows."""

    def __init__(self, ranks: Ranks, large: int, small: int, named: int) -> None:
        config = Config(model=Model(dim=DIM, history=False, cross="dot", bottom=[4], top=[4]))
        single = [TableSpec("large", large, "row_wise"), TableSpec("small", small, "row_wise")]
        spec = InputSpec(item=TableSpec("item_id", 2, "auto"), single=single, multi=[], dense=0, history=0)
        self.rows = Rows(shard(Ranker(spec, config.model, device=torch.device("meta")), spec, config, ranks), ranks)
        self.counts = {"large": large, "small": small}
        self.named, self.order = named, torch.Generator().manual_seed(0)
        self.vectors = torch.randn(named, DIM)

    def memory(self, table: str) -> Tensor:
        """The table's own [N, D]."""
        return self.rows.tables[table].shards[0].weight

    def draws(self, count: int, draws: int) -> Iterator[Tensor]:
        """Distinct rows below `count` in random order, for one call each; all are made before the first is taken."""
        made = []
        for _ in range(draws):
            rows = torch.randint(count, (2 * self.named,), generator=self.order).unique()
            made.append(rows[torch.randperm(len(rows), generator=self.order)][: self.named].clone())
        return iter(made)

    def turn(self, call: Callable[[Tensor], object], count: int, rounds: int) -> Callable[[], None]:
        """A contender that makes TURNS calls a round, each with a draw of its own."""
        draws = self.draws(count, rounds * TURNS)

        def run() -> None:
            for _ in range(TURNS):
                call(next(draws))

        return run

    def writes(self, table: str) -> dict[str, Callable[[Tensor], object]]:
        """Ours and the bare ones."""
        memory, vectors = self.memory(table), self.vectors
        return {
            "ours": lambda rows: self.rows.write(table, rows, vectors),
            "table[rows] = vectors": lambda rows: memory.index_put_((rows,), vectors),
            "index_copy_": lambda rows: memory.index_copy_(0, rows, vectors),
            "the same by numpy": lambda rows: memory.numpy().__setitem__(rows.numpy(), vectors.numpy()),
        }

    def reads(self, table: str) -> dict[str, Callable[[Tensor], object]]:
        """Ours and the bare ones."""
        memory = self.memory(table)
        return {
            "ours": lambda rows: self.rows.read(table, rows),
            "table[rows]": lambda rows: memory[rows],
            "index_select": lambda rows: memory.index_select(0, rows),
        }


def measure_write(config: Config, ranks: Ranks) -> Measured:
    """Rows a second, on one rank; it needs nothing of the config."""
    tables = Tables(ranks, LARGE, SMALL, NAMED)
    return compare(tables, tables.writes("large"), ROUNDS)


def measure_read(config: Config, ranks: Ranks) -> Measured:
    """Rows a second, on one rank; it needs nothing of the config."""
    tables = Tables(ranks, LARGE, SMALL, NAMED)
    return compare(tables, tables.reads("large"), ROUNDS)


def measure_size(config: Config, ranks: Ranks) -> Measured:
    """Rows a second written and read, on one rank; it needs nothing of the config."""
    return compare_sizes(Tables(ranks, LARGE, SMALL, NAMED), ROUNDS)


def compare(tables: Tables, calls: dict[str, Callable[[Tensor], object]], rounds: int) -> Measured:
    """Rows a second of each call, on rows from all over the large table."""
    count = tables.counts["large"]
    turns = {name: tables.turn(call, count, rounds) for name, call in calls.items()}
    detail = {"rows": tables.named, "dim": DIM, "of": count, "threads": torch.get_num_threads()}
    return alternated(turns, TURNS * tables.named, "rows/s", REQUIRED, rounds, detail)


def compare_sizes(tables: Tables, rounds: int) -> Measured:
    """Rows a second written and read in the large table ("ours") and, with the same row numbers, in the small one."""

    def both(table: str) -> Callable[[Tensor], object]:
        def run(rows: Tensor) -> None:
            tables.rows.write(table, rows, tables.vectors)
            tables.rows.read(table, rows)

        return run

    turns = {
        "ours": tables.turn(both("large"), tables.counts["small"], rounds),
        f"the same on {tables.counts['small']:,} rows": tables.turn(both("small"), tables.counts["small"], rounds),
    }
    detail = {
        "rows": tables.named,
        "of": tables.counts,
        "large/small, rows from all over": {
            f"{what}, {name}": _large_to_small(tables, calls, name, rounds)
            for what, calls in (("write", tables.writes), ("read", tables.reads))
            for name in calls("large")
        },
    }
    return alternated(turns, TURNS * tables.named, "rows/s", SIZE_REQUIRED, rounds, detail)


def _large_to_small(tables: Tables, calls: Callable, name: str, rounds: int) -> float:
    """Rate on the large table by rate on the small one."""
    seconds: dict[str, list[float]] = {"large": [], "small": []}
    turns = {table: tables.turn(calls(table)[name], tables.counts[table], rounds) for table in seconds}
    for _ in range(rounds):
        for table, run in turns.items():
            start = time.perf_counter()
            run()
            seconds[table].append(time.perf_counter() - start)
    return median(seconds["small"]) / median(seconds["large"])
