"""Which tables rows belong to: the lineage, the trained dense part, and how far both have come.

Rows made outside (proxies, simulated rows) fit tables of the same lineage only: the same features, the same width, and
the ids in the same rows. They were made for one trained dense part; what they mean to another is anybody's guess.
"""

import uuid
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Version:
    """Of tables, in memory or stored.

    Attributes:
        lineage: digest of features, table widths and fitted ids; admitting and evicting ids leaves it as it is.
        dense: the training run that the dense part comes from; resuming it, or going on with it on other days, leaves
            it as it is, a retrain does not.
        step: training steps done.
        delta: the newest delta of the run's log that is in them; 0 is none.
    """

    lineage: str
    dense: str
    step: int = 0
    delta: int = 0

    @classmethod
    def new(cls, lineage: str) -> "Version":
        """Of tables that begin to train."""
        return cls(lineage, uuid.uuid4().hex[:16])

    @classmethod
    def parse(cls, base: str) -> "Version":
        """The version that `base` names.

        Raises:
            ValueError: not such a name.
        """
        lineage, dense, step = base.split("/")
        return cls(lineage, dense, int(step))

    @property
    def base(self) -> str:
        """What rows made for these tables are marked with: lineage/dense/step."""
        return f"{self.lineage}/{self.dense}/{self.step}"

    @property
    def name(self) -> str:
        """What a score by these tables is marked with: lineage/dense/step/delta."""
        return f"{self.base}/{self.delta}"

    def at(self, step: int) -> "Version":
        """The same tables, trained for `step` steps."""
        return replace(self, step=step)
