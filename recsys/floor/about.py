"""What made a set of scores, beside them: `about.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recsys.errors import InputError

NAME = "about.json"


@dataclass(frozen=True, kw_only=True)
class About:
    """One system of the floor at one exposure."""

    system: str
    exposure: int
    dataset: str
    """Fingerprint."""
    settings: dict[str, Any]
    """The config's `floor`."""
    items: int
    """New items."""
    examples: int = 0
    """Kept rows that were learned from."""
    gradient_steps: int = 0
    passes: int = 0
    """Gradients over all examples: what the steps cost, line searches included."""
    converged: bool = True
    found: dict[str, Any] = field(default_factory=dict)
    """What the system chose by itself, such as ridge's penalty."""
    seconds: float = 0.0
    name: str = ""
    """In tables, if not the system's."""

    def row_name(self) -> str:
        """For the rows of a table: the system with its gradient steps, without which no row can be compared."""
        note = "" if self.converged else ", not converged"
        return f"{self.name or self.system} ({self.gradient_steps} gradient steps{note})"

    def save(self, folder: Path) -> None:
        """Write into a folder that is not in use yet."""
        (folder / NAME).write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> About:
    """What `tools.floor` wrote beside its scores.

    Raises:
        InputError: not there, or not whole.
    """
    try:
        return About(**json.loads((folder / NAME).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / NAME}: expected what tools.floor writes: {error}") from None
