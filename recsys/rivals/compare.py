"""The comparison: search, train the best on every draw, score the test rows, and difference the base and each rival.

    <run>/rivals/trials.jsonl                       the search, as it goes
    <run>/rivals/seed-<k>/scores/<system>-<key>.parquet
    <run>/rivals/seed-<k>/results-<key>.json         one draw, as recsys.evaluate gives it
    <run>/rivals/results.json, table.md              all draws

Every step leaves a file and is passed over when its file is there.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from recsys.config import Config
from recsys.errors import InputError
from recsys.evaluate.pointwise import evaluate
from recsys.evaluate.results import read as read_results
from recsys.evaluate.results import save as save_results
from recsys.files import replacing
from recsys.rivals import base, summary
from recsys.rivals.bench import TRAIN, Bench, draw, search_draw
from recsys.rivals.grids import BASE, SPACES
from recsys.rivals.rows import write_scores
from recsys.rivals.search import key_of, search
from recsys.trials.search import Trial
from recsys.trials.space import Params

RIVALS = tuple(name for name in SPACES if name != BASE)
"""Everything that the base can be compared to."""


def compare(
    config: Config, budget: int, seeds: list[int], ranks: int = 2, rivals: tuple[str, ...] = RIVALS
) -> dict[str, Any]:
    """Search on an inner cut of the config's own draw, then train, score and judge every draw.

    Returns what `results.json` holds.

    budget: configurations tried for each system. seeds: draws of the held-out items, and of the weights.
    ranks: processes that the base trains on.

    Raises:
        InputError: a dataset or a config that is not as it should be, or the base's training or scoring failed, but
            for trials that are not its default.
    """
    if budget < 1:
        raise InputError(f"budget {budget}: expected at least one configuration for each system")
    folder = Path(config.run) / "rivals"
    draws = {seed: Bench(draw(config, seed, folder)) for seed in seeds}
    inner = Bench(search_draw(config, folder))
    trials = {}
    for name in (BASE, *rivals):

        def train(params: Params, name: str = name) -> float:
            return float(_train(name, inner, params, ranks).valid_auc)

        trials[name] = search(name, inner.config, budget, folder / "trials.jsonl", train, ranks=ranks)
    found = {seed: _judge(bench, trials, ranks) for seed, bench in draws.items()}
    results = summary.combine(found, trials, budget)
    with replacing(folder / "results.json") as path:
        path.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    with replacing(folder / "table.md") as path:
        path.write_text(summary.markdown(results))
    return results


def _train(system: str, bench: Bench, params: Params, ranks: int) -> Any:
    """The system trained with `params`; the base's run has a folder of its own, and stays."""
    if system == BASE:
        folder = Path(bench.config.run) / f"base-{key_of(BASE, params, bench.config, ranks)}"
        return base.train(bench.config, params, folder, ranks)
    return TRAIN[system](bench, params, bench.config.train.seed)


def _judge(bench: Bench, trials: dict[str, list[Trial]], ranks: int) -> dict[str, Any]:
    """Scores of every system's best configuration on one draw's test rows, judged against the base."""
    best = {name: found[0].params for name, found in trials.items()}
    run = Path(bench.config.run)
    keys = {name: key_of(name, params, bench.config, ranks) for name, params in best.items()}
    paths = {name: run / "scores" / f"{name}-{key}.parquet" for name, key in keys.items()}
    for name, path in paths.items():
        if not path.exists():
            print(f"{run.name}: {name} with its best configuration: {best[name]}", flush=True)
            write_scores(path, _train(name, bench, best[name], ranks).scores("test"))
    about = json.dumps([keys, str(bench.config.evaluate)], sort_keys=True)
    out = run / f"results-{hashlib.sha256(about.encode()).hexdigest()[:12]}.json"
    if not out.exists():
        found = evaluate(bench.config, {name: Path(path) for name, path in paths.items()}, "test", BASE)
        save_results(found, out)
    return read_results(out)
