"""What items say of themselves, as vectors: the judge's mean-pooled states (ColdLLM, eq. 6), or an encoder's.

    <run>/simulator/content/<digest>.parquet    item_id, vector: the judge's, of every item with a text

The digest is over the judge and the texts that it read, so what is there is never made again.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.config import Config
from recsys.data.jagged import Jagged
from recsys.data.vectors import of
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.files import replacing
from recsys.floor.content import content_file
from simulator import judge as judges
from simulator import texts
from simulator.judge import Judge
from simulator.population import Population

Matrix = NDArray[np.float32]
CHUNK = 1024
"""Texts embedded before they are written."""


@dataclass(frozen=True, eq=False)
class Content:
    """Vectors of the population's I items, as the towers read them: less a mean, over a size. 4 bytes a value.

    Encoders put all texts into one corner of their space; what tells items apart begins at its middle.

    Attributes:
        vectors: [I, H], zero for an item that has none.
        known: [I] which items have one.
        mean: [H] of the warm items.
        size: one number, by which the warm items' values have a mean square of 1.
    """

    vectors: Matrix
    known: NDArray[np.bool_]
    mean: Matrix
    size: float

    @classmethod
    def read(cls, path: Path, population: Population) -> "Content":
        """The vectors of a Parquet file (item_id, vector); 24 bytes a value while it is read.

        Raises:
            InputError: as `recsys.data.vectors.of`, or no warm item has a vector.
        """
        found = of(path, population.items)
        known = ~np.isnan(found[:, 0])
        warm = np.flatnonzero(known[: population.warm])
        if not len(warm):
            raise InputError(f"{path}: no item with training rows has a content vector there")
        mean = found[warm].mean(axis=0)
        found -= mean
        size = max(float(np.square(found[warm]).mean()), 1e-12) ** 0.5
        vectors = np.where(known[:, None], found / size, 0).astype(np.float32)
        return cls(vectors, known, mean.astype(np.float32), size)


def minilm(config: Config, ranks: Ranks) -> Path | None:
    """MiniLM's file of vectors where `simulator.filter.content` asks for it, made where it is not there. Collective."""
    if config.simulator.filter.content != "minilm":
        return None
    return content_file(replace(config, floor=replace(config.floor, content=None)), ranks)


def judged(config: Config, judge: Judge, population: Population) -> Path:
    """The judge's file of vectors, made where it is not there.

    Raises:
        InputError: the items have no column of the template.
    """
    asked = config.simulator.prompt
    told = texts.read(Path(config.data.path), asked.template, asked.tokens, population.items)
    path = Path(config.run) / "simulator" / "content" / f"{_digest(config, population, told)}.parquet"
    if not path.exists():
        _write(path, judge, population.items, told)
    return path


def of_users(content: Matrix, taken: Jagged) -> Matrix:
    """[U, H] c_u: the mean content of what each user took (LLM-InS, eq. 7); zero for one who took nothing.

    content: [I, H]. taken: [U] lists of item codes.
    """
    sums = np.zeros((len(taken.lengths), content.shape[1]), np.float32)
    for start in range(0, len(sums), CHUNK):
        part = taken.slice(start, min(start + CHUNK, len(sums)))
        some = np.flatnonzero(part.lengths)
        if len(some):
            sums[start + some] = np.add.reduceat(content[part.values], part.offsets[:-1][some])
    return sums / np.maximum(taken.lengths, 1)[:, None].astype(np.float32)


def _write(path: Path, judge: Judge, items: pa.Array, told: list[str]) -> None:
    kept = [row for row, text in enumerate(told) if text]
    bar = tqdm(total=len(kept), desc="embed items", unit="item", disable=None)
    with replacing(path) as partial, bar:
        schema = pa.schema([("item_id", items.type), ("vector", pa.list_(pa.float32()))])
        with pq.ParquetWriter(partial, schema) as writer:
            for start in range(0, len(kept), CHUNK):
                rows = kept[start : start + CHUNK]
                vectors = list(judge.embed([told[row] for row in rows]))
                writer.write_table(pa.table([items.take(pa.array(rows)), pa.array(vectors)], schema=schema))
                bar.update(len(rows))


def _digest(config: Config, population: Population, told: list[str]) -> str:
    read = [judges.digest(config.simulator.judge), config.simulator.prompt.tokens, population.items.to_pylist(), told]
    return hashlib.sha256(json.dumps(read, default=str).encode()).hexdigest()[:32]
