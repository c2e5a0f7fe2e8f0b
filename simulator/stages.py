"""The stages of a simulation, in their order; what has been done of one is not done again.

tune      the judge learns of the training interactions              <run>/simulator/adapter
filter    vectors whose dot product says who may take an item        <run>/simulator/filter
users     candidates of each cold item, and those who qualify        <run>/simulator/<name>/simulated.parquet
update    rows learned from them, test scores, and at last a delta   <run>/simulator/<name>, <run>/deltas
"""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from recsys.config import Config
from recsys.distributed import Ranks, together
from simulator import filter, finetune, funnel, judge, update
from simulator.endpoints import Share

Stage = Literal["tune", "filter", "users", "update"]
STAGES: tuple[Stage, ...] = get_args(Stage)


def run(config: Config, stages: Sequence[Stage], ranks: Ranks) -> Iterator[str]:
    """Do these stages, and of each, once it is done, tell what came of it. Collective.

    Raises:
        InputError: as the stages do.
    """
    if "tune" in stages:
        wanted = finetune.wanted(config)
        yield f"adapter: {finetune.tune(config, ranks) if wanted else 'none is tuned, as simulator.judge says'}"
    if "filter" in stages or ("users" in stages and config.simulator.funnel.refine):
        config = together(lambda: finetune.tuned(config))
    if "filter" in stages:
        asked = together(lambda: judge.load(config.simulator, ranks.device, Share.of(ranks)))
        yield f"filter: {filter.train(config, asked, ranks)}"
    if "users" in stages:
        yield f"simulated: {funnel.simulate(config, ranks)}"
    if "update" in stages:
        yield _told(update.update(config, ranks))


def _told(updated: update.Updated) -> str:
    delta = updated.delta
    if updated.about is None:
        return f"retrained: {updated.folder}"
    brought = "no row of the tables has changed" if delta is None else f"delta: {delta.folder}"
    found = updated.about.found
    return f"rows: {updated.folder} ({found['simulated']:,} simulated rows, {found['gradient_steps']} steps)\n{brought}"
