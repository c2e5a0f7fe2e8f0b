"""What `tools.prompt --network` reads and writes: PROMO's network beside the ranker, or beside a trained backbone.

Several steps may use one network: it is trained by the first of them, and only what it has learned from begins it anew.
"""

import argparse

from recsys.config import Config
from recsys.pipeline.contract import Contract, of_run

_LISTS = tuple(f"prompt.{key}" for key in ("k", "by", "window", "even_lengths", "popular", "seed"))
_BEGUN_WITH = (
    *_LISTS,
    "prompt.model",
    *(f"prompt.tuning.{key}" for key in ("lr", "table_lr", "batch", "negatives", "pose", "seed")),
)
"""Keys that a network is refused under other values of (`recsys.prompt.host.network`, `recsys.prompt.protocol`)."""
_KEYS = (*_LISTS, "prompt.model", "prompt.tuning", "prompt.name")


def contract(config: Config, switches: argparse.Namespace) -> Contract:
    """That of `tools.prompt --network` and its other switches."""
    beside_ranker = switches.exposure is not None or switches.feedback or switches.export
    return _beside_ranker(config, switches) if beside_ranker else _beside_backbone(config)


def _beside_ranker(config: Config, switches: argparse.Namespace) -> Contract:
    folder, keys = f"prompt/host/{config.prompt.name}", (*_KEYS, "train.shuffle_rows")
    reads = (config.data.path, *of_run(config, "checkpoints"))
    made = of_run(config, *(f"{folder}/{name}" for name in ("checkpoints", "deltas", "encoder")))
    begins = dict.fromkeys(made, (*_BEGUN_WITH, *reads))
    if switches.feedback:
        writes = of_run(config, *(f"{folder}/{name}" for name in ("feedback", "deltas", "export")))
        return Contract(keys=keys, reads=(*reads, switches.feedback), writes=writes, begins=begins)
    if switches.export:
        reads = (*reads, *of_run(config, "deltas", f"{folder}/feedback"))
        return Contract(keys=keys, reads=reads, writes=of_run(config, f"{folder}/export"), begins=begins)
    finetune = config.prompt.tuning.finetune
    return Contract(
        keys=(*keys, "floor") if finetune else keys,
        reads=(*reads, *of_run(config, "scores/test")),
        writes=of_run(config, f"{folder}/{'finetuned/' if finetune else ''}n={switches.exposure}"),
        begins=begins,
    )


def _beside_backbone(config: Config) -> Contract:
    kind = config.backbone.kind
    folder, reads = f"prompt/{kind}/{config.prompt.name}", (config.data.path, *of_run(config, f"backbone/{kind}"))
    return Contract(
        keys=(*_KEYS, "backbone", "features", "evaluate"),
        reads=reads,
        writes=of_run(config, f"{folder}/scores"),
        begins=dict.fromkeys(of_run(config, f"{folder}/checkpoint"), (*_BEGUN_WITH, *reads)),
    )
