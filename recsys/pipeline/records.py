"""What is known of the steps that a pipeline has begun.

<run>/pipeline/steps.jsonl    one line whenever a step is cleared for, begun and done; of a step the last one counts
<run>/pipeline/<step>.log     what its commands printed
<run>/pipeline/files.json     digests of files, by size and modification time
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from recsys import journal

State = Literal["cleared", "begun", "done"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Of one step; `cleared`: what it had begun with other inputs is being removed.

    Attributes:
        values: of the config, those that its result follows from.
        inputs, outputs: digests by path, None of what is not there; outputs only of a step that is done.
    """

    step: str
    state: State
    command: str
    arguments: str
    values: dict[str, Any]
    inputs: dict[str, str | None]
    outputs: dict[str, str | None] = field(default_factory=dict)
    seconds: float = 0.0


def folder_of(run: Path) -> Path:
    """Where a pipeline's records are."""
    return run / "pipeline"


def read(run: Path) -> dict[str, Record]:
    """The newest record of each step, by its name; a line that is none is left out."""
    found = {}
    for entry in journal.entries(folder_of(run) / "steps.jsonl"):
        try:
            record = _RECORD.validate_python(entry)
        except ValidationError:
            continue
        found[record.step] = record
    return found


def write(run: Path, record: Record) -> None:
    """Add the newest record of a step."""
    journal.append(folder_of(run) / "steps.jsonl", asdict(record))


_RECORD = TypeAdapter(Record)
