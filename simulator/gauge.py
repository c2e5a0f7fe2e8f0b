"""What the judge knows of new items: whom of a user's held-out cold items it tells from others, and by what.

    zero-shot        the language model as it is
    tuned            with its adapter
    swapped          tuned, each user's history replaced by another's: what needs no history, popularity above all
    minilm           cosine of the item's MiniLM vector and the mean of the history's, all less the mean of all
    tuned+minilm     the sum of their z-scores, of the tuned one's logit

All are asked the same pairs (`simulator.pairs`), and the AUC against each kind of items that were not taken is a
segment of its own. Tuned minus swapped is what the judge learns from the history.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import zscore
from tqdm import tqdm

from recsys.config import Config
from recsys.content.encoder import minilm
from recsys.data.jagged import Jagged
from recsys.data.schema import read_info
from recsys.distributed import Ranks, of_first, on_first, together
from recsys.errors import InputError
from recsys.evaluate import bootstrap, report, results, systems
from recsys.evaluate.bootstrap import METRICS, Judged, Sample
from simulator import finetune, judge, texts
from simulator.endpoints import Share
from simulator.judge import Judge
from simulator.pairs import KINDS, Pairs
from simulator.population import Population

_SWAPPED = "swapped"
_RANKING = 3
"""The bootstrap's first metrics: AUC and both GAUC. The others are of calibrated scores."""

_SURE, _TINY = 1e-6, 1e-12
"""What a probability is kept from 0 and 1 by, and a length from 0."""

Scores = NDArray[np.float32]


def gauge(config: Config, ranks: Ranks) -> Path:
    """Ask, write `<run>/simulator/gauge.json` in the shape of results.json, and print it. Collective.

    The ranks share the users.

    Raises:
        InputError: as `simulator.judge.load`, `Population.read` and `Pairs.draw`, or there is no adapter.
    """
    started = time.perf_counter()
    adapter = config.simulator.judge.adapter or str(finetune.folder_of(config))
    path = Path(config.run) / "simulator" / "gauge.json"
    on_first(ranks, lambda: _require(Path(adapter)))
    dataset = Path(config.data.path)
    population = together(lambda: Population.read(dataset))
    pairs = together(lambda: Pairs.draw(dataset, population, config.simulator))
    found = _scores(config, population, pairs, adapter, ranks)

    def write() -> None:
        told = _results(config, pairs, found)
        told |= {"adapter": adapter, "seconds": {"gauge": round(time.perf_counter() - started, 1)}}
        results.save(told, path)
        report.show(told)

    on_first(ranks, write)
    return path


def _require(adapter: Path) -> None:
    if not (adapter / "adapter_config.json").exists():
        raise InputError(f"{adapter}: no adapter there: tune the judge first, or name one by simulator.judge.adapter")


def _scores(config: Config, population: Population, pairs: Pairs, adapter: str, ranks: Ranks) -> dict[str, Scores]:
    """[N] of each system, in [0, 1]. Collective."""
    asked, dataset, shown = config.simulator, Path(config.data.path), pairs.histories
    codes, place = np.unique(np.concatenate([shown.values, pairs.item]), return_inverse=True)
    told, item = np.split(place, [len(shown.values)])
    ids = population.items.take(codes)
    whole = texts.read(dataset, asked.prompt.template, asked.prompt.tokens, ids)
    short = texts.read(dataset, asked.prompt.history_template, asked.prompt.history_tokens, ids)
    histories = [[short[one] for one in some] for some in np.split(told, shown.offsets[1:-1])]

    def by(model: Judge, user: NDArray[np.integer]) -> Scores:
        return _shared(model, histories, whole, np.stack([user, item], axis=1).astype(np.int64), ranks)

    bare, tuned = (replace(asked, judge=replace(asked.judge, adapter=one)) for one in (None, adapter))
    found = {"zero-shot": by(together(lambda: judge.load(bare, ranks.device, Share.of(ranks))), pairs.user)}
    model = together(lambda: judge.load(tuned, ranks.device, Share.of(ranks)))
    found["tuned"] = by(model, pairs.user)
    # Users stand in an order that was drawn, so the next one is anybody.
    found[_SWAPPED] = by(model, (pairs.user + 1) % len(histories))
    cosine = of_first(ranks, lambda: _cosine(whole, Jagged(told, shown.offsets), pairs.user, item, ranks.device))
    found["minilm"] = ((1 + cosine) / 2).astype(np.float32)
    sure = np.clip(found["tuned"].astype(np.float64), _SURE, 1 - _SURE)
    return found | {"tuned+minilm": expit(zscore(logit(sure)) + zscore(cosine)).astype(np.float32)}


def _shared(
    model: Judge, histories: Sequence[Sequence[str]], items: Sequence[str], pairs: NDArray[np.int64], ranks: Ranks
) -> Scores:
    """[N] P(Yes), each rank asking about its share of the users. Collective."""
    mine = np.flatnonzero(pairs[:, 0] % ranks.world_size == ranks.rank)
    found = np.zeros(len(pairs), np.float32)
    # A tenth of the users at a time, for the bar.
    parts = [mine[pairs[mine, 0] * 10 // len(histories) == tenth] for tenth in range(10)]

    def ask() -> None:
        for part in tqdm(parts, desc="gauge", unit="tenth", disable=None if ranks.is_first else True):
            found[part] = model.score(histories, items, pairs[part])

    together(ask)
    whole = torch.from_numpy(found)
    dist.all_reduce(whole)
    return whole.numpy()


def _cosine(
    items: Sequence[str], told: Jagged, user: NDArray[np.int32], item: NDArray[np.int64], device: torch.device
) -> Scores:
    """[N] of the item and the mean of the user's history, after the mean over all these items is taken off."""
    vectors = minilm(device.type)(list(items))
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = np.repeat(np.arange(len(told.lengths)), told.lengths)
    users = np.zeros((len(told.lengths), vectors.shape[1]), np.float32)
    np.add.at(users, owner, vectors[told.values])
    users /= np.maximum(np.linalg.norm(users, axis=1, keepdims=True), _TINY)
    return np.einsum("nh,nh->n", users[user], vectors[item])


def _results(config: Config, pairs: Pairs, found: dict[str, Scores]) -> dict[str, Any]:
    info = read_info(config.data.path)
    judged: dict[str, tuple[Judged | None, dict[str, int]]] = {}
    for number, kind in enumerate(KINDS, 1):
        rows = (pairs.kind == 0) | (pairs.kind == number)
        sample = Sample.of(pairs.user[rows], pairs.item[rows], (pairs.kind[rows] == 0).astype(np.int8))
        options = config.evaluate
        whole = bootstrap.judge(sample, [one[rows] for one in found.values()], options.replicates, options.seed, kind)
        ranking = Judged(whole.value[:, :_RANKING], whole.replicates[:, :, :_RANKING])
        judged[kind] = ranking, {"rows": len(sample.label), "users": sample.users_with_both()}
    return {
        "dataset": info.name,
        "split": f"{info.rule}/cold items of valid and test",
        "seeds": [info.seed],
        **systems.tables(list(found), _SWAPPED, METRICS[:_RANKING], judged),
    }
