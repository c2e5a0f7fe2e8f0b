"""What a pipeline's YAML says (`tools.pipeline`): which tools run one after the other, and on what.

It is a file of its own beside the configs, since it says what is done and they say with what.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Positive

Tool = Literal[
    "prepare",
    "train",
    "predict",
    "align",
    "simulate",
    "floor",
    "prompt",
    "lifecycle",
    "evaluate",
    "export",
    "report",
    "popularity",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Step:
    """One command of a pipeline."""

    tool: Tool
    """What runs, `tools.<tool>`, and what it is known to read and write (`recsys.pipeline.contracts`)."""
    name: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
    """What it is called; empty: as its tool."""
    config: str = ""
    """Files laid over the pipeline's config and keys, as they are typed; {run} is the run folder of that config."""
    arguments: str = ""
    """The tool's switches, as they are typed, behind the word that stands before its config if it has one, such as
    `generate --items new.parquet`; {run} as above."""
    ranks: Positive | None = None
    """Ranks of this step; None: the pipeline's, and one for a tool or a job of it that runs on one."""
    show: bool = False
    """Print what it said once it is done, not the last line alone."""

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.tool


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pipeline:
    """Commands that build on one another."""

    config: str = ""
    """Config files and keys that every step is given, as they are typed; what is typed behind the pipeline's file comes
    on top."""
    ranks: Positive = 2
    """Ranks of the tools that run on several."""
    steps: Annotated[list[Step], Field(min_length=1)]
    """In their order: a step may read what those before it write."""

    @field_validator("steps")
    @classmethod
    def _each_name_once(cls, steps: list[Step]) -> list[Step]:
        names = [step.label for step in steps]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two steps are called {twice[0]!r}: give one of them another name")
        return steps
