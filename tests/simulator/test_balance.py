"""Weights of simulated rows: what they are by the formula, that they make a start at rest, and on any ranks."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys.coldrows.frozen import Frozen
from recsys.config_simulator import Update
from recsys.data.batch import Batcher
from recsys.data.encode import Block
from recsys.distributed import process_group
from simulator import balance, interactions, states
from simulator.interactions import Interactions
from simulator.population import training_users
from tests.ranks import run_ranks
from tests.simulator import simulations


def weighed(home: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of all rows: item, label, score at the start, weight; of this rank's rows alone the weight."""
    with simulations.inside(home), process_group() as ranks:
        made = simulations.config()
        pairs = _pairs()
        frozen = Frozen.load(made, pairs.items, ranks)
        start = frozen.unknown().repeat(len(pairs.items), 1)

        def block(begin: int, end: int) -> Block:
            rows = states.simulated(made.data, pairs, slice(begin, end), frozen.encoder.columns())
            return frozen.encoder.encode(rows, begin)

        every = block(0, len(pairs))
        batch = Batcher(frozen.encoder, len(every)).cut(every)
        score = frozen.logits(batch, start).sigmoid().detach().numpy()
        begin, end = (len(pairs) * k // ranks.world_size for k in (ranks.rank, ranks.rank + 1))
        return pairs.item, pairs.label, score, balance.weights(frozen, block(begin, end), start, 7)


def _pairs() -> Interactions:
    path = Path("run/simulator/simulated/simulated.parquet")
    return interactions.read(path, training_users(Path("data")), Update(), False)


def test_at_the_start_nothing_is_to_be_had_from_an_items_level(simulated: Path) -> None:
    item, label, score, weight = weighed(simulated)
    assert set(item) == {0, 1, 2}
    for k in range(3):
        here = item == k
        assert abs((weight * (label - score))[here].sum()) < 1e-4
        assert abs((label - score)[here].sum()) > 0.2, "it would have moved without them"
        above, below = ((1 - score)[here & (label == 1)]).sum(), score[here & (label == 0)].sum()
        expected = np.where(label[here] == 1, 2 * below, 2 * above) / (above + below)
        np.testing.assert_allclose(weight[here], expected, rtol=1e-5)


def test_ranks_weigh_their_rows_as_one_would(simulated: Path) -> None:
    alone = weighed(simulated)[3]
    np.testing.assert_allclose(np.concatenate([each[3] for each in run_ranks(2, weighed, simulated)]), alone, rtol=1e-5)
    assert len(alone) > 20


def test_an_item_of_one_class_weighs_nothing(simulated: Path) -> None:
    with simulations.inside(simulated), process_group() as ranks:
        made, pairs = simulations.config(), _pairs()
        frozen = Frozen.load(made, pairs.items, ranks)
        block = frozen.encoder.encode(states.simulated(made.data, pairs, slice(None), frozen.encoder.columns()), 0)
        block = replace(block, label=np.ones_like(block.label))
        assert not balance.weights(frozen, block, frozen.unknown().repeat(3, 1), 16).any()
