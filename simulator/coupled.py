"""Pairs of users and warm items that the judge has been asked about: what the filter is coupled to (ColdLLM, eq. 17).

    <run>/simulator/coupled/<digest>/part-00000.parquet    user_id, item_id, yes float32

A part is written when its pairs are judged, so a killed run asks no more than one part twice. The digest is over the
judge, its prompt, the pairs and every text that it reads.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.config import Config
from recsys.config_simulator import Simulator
from recsys.data.jagged import Jagged
from recsys.data.vectors import opened
from recsys.errors import InputError
from recsys.files import replacing
from simulator import contexts, judge, texts
from simulator.judge import Judge
from simulator.population import Population
from simulator.samples import Codes, Interactions

EACH = 8
"""Pairs of a user: half taken, half not; they share the history, which the judge reads once."""
PART = 32
"""Users of a part."""


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


def ask(config: Config, judged_by: Judge, population: Population, known: Interactions) -> Coupled:
    """The answers about `simulator.filter.coupled` pairs of `known`, of which those asked before are read.

    Raises:
        InputError: the items have no column of the prompt's templates, or a part is damaged.
    """
    options = config.simulator
    user, item = draw(known, options.filter.coupled, options.filter.seed)
    shown = _shown(population, user, item, options)
    dataset, prompt = Path(config.data.path), options.prompt
    told = texts.read(dataset, prompt.template, prompt.tokens, population.items)
    remembered = texts.read(dataset, prompt.history_template, prompt.history_tokens, population.items)
    histories = [[remembered[one] for one in shown.slice(k, k + 1).values] for k in range(len(shown.lengths))]
    asked, where = np.unique(user, return_inverse=True)
    folder = Path(config.run) / "simulator" / "coupled" / _digest(options, user, item, histories, told)
    found = []
    with tqdm(total=len(user), desc="coupled pairs", unit="pair", disable=None) as bar:
        for part, start in enumerate(range(0, len(asked), PART)):
            rows = np.flatnonzero((where >= start) & (where < start + PART))
            path = folder / f"part-{part:05d}.parquet"
            if not path.exists():
                pairs = np.stack([where[rows] - start, np.arange(len(rows))], axis=1)
                yes = judged_by.score(histories[start : start + PART], [told[one] for one in item[rows]], pairs)
                _write(path, population, user[rows], item[rows], yes)
            found.append(_read(path, len(rows)))
            bar.update(len(rows))
    return Coupled(user, item, np.concatenate([np.zeros(0, np.float32), *found]))


def draw(known: Interactions, count: int, seed: int) -> tuple[Codes, Codes]:
    """At most `count` users and items, sorted by user: of users drawn at random, half they took, half they did not."""
    random = np.random.default_rng([seed, 1])
    takers, items = known.ends()
    each = np.unique(takers)
    each = np.sort(random.permutation(each)[: max(count // EACH, 1)]) if count else each[:0]
    user, item = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for one in each:
        took = items[slice(*np.searchsorted(takers, [one, one + 1]))]
        took = random.permutation(took)[: EACH // 2]
        others = known.other_items(np.full(EACH - len(took), one), random)
        picked = np.unique(np.concatenate([took, others]))
        user.append(np.full(len(picked), one))
        item.append(picked)
    return np.concatenate(user), np.concatenate(item)


def _shown(population: Population, user: Codes, item: Codes, options: Simulator) -> Jagged:
    """Item codes of the history that each distinct user is shown, without the items asked about: those would answer."""
    stride = len(population.items)
    events = population.taken.index(np.unique(user))
    owner = np.repeat(np.unique(user), events.lengths)
    open_ = ~np.isin(owner * stride + population.taken.values[events.values], user * stride + item)
    left = Jagged(events.values[open_], np.searchsorted(np.flatnonzero(open_), events.offsets))
    kept = contexts.draw(left, options.prompt.history, options.prompt.seed)
    return Jagged(population.taken.values[left.values[kept]], np.searchsorted(kept, left.offsets))


def _write(path: Path, population: Population, user: Codes, item: Codes, yes: NDArray[np.float32]) -> None:
    columns = {"user_id": population.users.take(pa.array(user)), "item_id": population.items.take(pa.array(item))}
    with replacing(path) as partial:
        pq.write_table(pa.table({**columns, "yes": pa.array(yes, pa.float32())}), partial)


def _read(path: Path, rows: int) -> NDArray[np.float32]:
    with opened(path) as file:
        if file.metadata.num_rows != rows or "yes" not in file.schema_arrow.names:
            raise InputError(f"{path}: expected {rows} judged pairs: remove it")
        return file.read(["yes"])["yes"].to_numpy()


def _digest(options: Simulator, user: Codes, item: Codes, histories: list[list[str]], told: list[str]) -> str:
    read = [judge.digest(options.judge), asdict(options.prompt), histories, [told[one] for one in item]]
    made = hashlib.sha256(json.dumps(read).encode() + user.tobytes())
    return made.hexdigest()[:32]
