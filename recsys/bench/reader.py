"""Row `reader`: rows a second from Parquet to the batches that a step takes, against pyarrow reading the same columns.

Ours also maps ids to rows, gathers side features, shuffles and cuts batches. The bound is the faster of reading columns
as they are and with strings dictionary-encoded, row group by row group.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq

from recsys.bench.data import make
from recsys.bench.frame import Measured, alternated
from recsys.config import Config
from recsys.data.fit import fit
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.data.stored import text_columns
from recsys.distributed import Ranks

ROUNDS = 5
REQUIRED = 0.5


def measure(config: Config, ranks: Ranks) -> Measured:
    """Make the bench's dataset, unless it is there, and read it. On one rank."""
    make(config.data)
    return compare(config, ROUNDS)


def compare(config: Config, rounds: int) -> Measured:
    """Rates in rows a second over whole epochs of split=train."""
    encoder, train = fit(config), config.train
    reader = Reader(encoder, "train", train.batch_size, shuffle=train.shuffle_rows, hide_ids=train.hide_ids)
    files, columns, epochs = split_files(Path(config.data.path), "train"), encoder.columns(), count()

    def ours() -> None:
        for _ in reader.epoch(next(epochs)):
            pass

    def strings(path: Path) -> list[str]:
        return text_columns(pq.read_schema(path))

    def bare(texts: Callable[[Path], list[str] | None]) -> Callable[[], None]:
        def read() -> None:
            for path in files:
                with pq.ParquetFile(path, read_dictionary=texts(path)) as file:
                    for group in range(file.num_row_groups):
                        file.read_row_group(group, columns=columns)

        return read

    contenders = {"ours": ours, "pyarrow": bare(lambda _: None), "pyarrow, dictionaries": bare(strings)}
    detail = {"rows": reader.rows, "columns": columns, "batch_size": train.batch_size}
    return alternated(contenders, reader.rows, "rows/s", REQUIRED, rounds, detail)
