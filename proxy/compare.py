"""Retrieval of warm items that nothing was fitted or chosen on: stage 1 beside its rivals, with intervals.

    <run>/proxy/align/retrieval.json    {"items", "among", "systems": {name: {metric: [value, low, high]}},
                                         "minus": {rival: {name: {metric: [value, low, high]}}}}

`minus` holds differences to ridge and to ridge/even, paired by item.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from proxy.align import aligned, folder_of, learnable
from proxy.baselines import Known, fit_all
from proxy.loop import retrieve
from proxy.retrieval import Values, find, interval, measures, names
from proxy.targets import TEST
from recsys.config import Config
from recsys.data.vectors import of as vectors_of
from recsys.distributed import Ranks, on_first
from recsys.files import replacing
from recsys.floor.content import content_file

RIVALS = ("ridge", "ridge/even")


def compare(config: Config, ranks: Ranks) -> dict[str, Any]:
    """What retrieval.json tells, which is written. Collective.

    Targets without content of their own or without a content vector are left out of all systems.

    Raises:
        InputError: as `proxy.align.align`; the run has no alignment; no target has a content vector.
    """
    targets, content = learnable(config, ranks)
    x = vectors_of(content_file(config, ranks), targets.ids)
    at = np.flatnonzero(~np.isnan(x).any(axis=1))
    targets, content, x = targets.take(at), content.take(at), x[at]
    targets.require(config.proxy.align)
    model = aligned(config, targets.vectors.shape[1]).to(ranks.device)
    recall, asked = config.proxy.align.recall, targets.of(TEST)
    found = {"v3": retrieve(model, targets, content, TEST, config.proxy.encoder.batch_size, ranks)}
    for name, guess in fit_all(Known(targets, x), config.floor.ridge, config.proxy.align).items():
        found[name] = find(torch.from_numpy(guess(x[asked])), targets.unit, asked)
    values = {name: measures(each, len(targets.ids), recall) for name, each in found.items()}
    told = {"items": len(asked), "among": len(targets.ids), **_told(values, config)}
    on_first(ranks, lambda: _write(told, folder_of(config) / "retrieval.json"))
    return told


def table(told: dict[str, Any]) -> Table:
    """What `compare` found, as a table: values with intervals, and the difference of auc to the better ridge."""
    metrics = list(next(iter(told["systems"].values())))
    title = f"the own ID of {told['items']:,} left-out items among {told['among']:,}"
    made = Table(title=title, caption="v1: nearest content, v2: MLP on frozen content, v3: aligned encoder")
    best = max(RIVALS, key=lambda rival: told["systems"][rival]["auc"][0])
    for name in ("", *metrics, f"auc - {best}"):
        made.add_column(name, justify="right" if name else "left")
    for name, found in told["systems"].items():
        gain = told["minus"][best].get(name, {}).get("auc")
        made.add_row(name, *(_cell(found[metric]) for metric in metrics), _cell(gain) if gain else "")
    return made


def _told(values: dict[str, Values], config: Config) -> dict[str, Any]:
    metrics, options = names(config.proxy.align.recall), config.evaluate

    def of(each: Values) -> dict[str, list[float]]:
        return dict(zip(metrics, interval(each, options.replicates, options.seed).tolist(), strict=True))

    minus = {
        rival: {name: of(each - values[rival]) for name, each in values.items() if name != rival} for rival in RIVALS
    }
    return {"systems": {name: of(each) for name, each in values.items()}, "minus": minus}


def _write(told: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")


def _cell(value: list[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*value)
