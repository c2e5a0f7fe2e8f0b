"""What a step of a pipeline follows from, and what it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recsys.config import Config

_NO_RESULT = (
    "data.path",
    "evaluate.batch_size",
    "proxy.encoder.batch_size",
    "simulator.judge.batch_size",
    "simulator.judge.endpoints",
    "simulator.judge.embedders",
    "simulator.judge.requests",
    "simulator.funnel.batch_size",
    "simulator.funnel.journal",
    "simulator.gauge",
    "simulator.backbone",
    "train.keep",
    "train.profile",
    "train.timeout",
)
"""Keys that say how, or are of commands that are no step."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Of a step.

    Attributes:
        keys: of the config, each with all below it.
        reads, writes: files, folders or globs; who reads a folder reads all of it.
        begins: what is removed before the step is done again, by what it is removed for: keys and paths of which one
            must have changed, any where there are none. Not what a step before it has begun from the same.
    """

    keys: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    begins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def follows_from(self, key: str) -> bool:
        """Whether the step's result depends on this key of the config."""
        speed = key.endswith((".cache", ".checkpointing", "sharding")) or within(key, _NO_RESULT)
        return not speed and within(key, self.keys)


def within(key: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of these, or below one."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def of_run(config: Config, *names: str) -> tuple[str, ...]:
    """Paths in the config's run."""
    return tuple(str(Path(config.run) / name) for name in names)
