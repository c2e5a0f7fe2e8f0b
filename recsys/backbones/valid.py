"""What is chosen by on split=valid: Recall@20 of a segment of items, as `recsys.evaluate.ranking` has it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.backbones.graph import Codes, Graph
from recsys.config import Evaluate
from recsys.errors import InputError
from recsys.evaluate import gains, ranking
from recsys.evaluate.bootstrap import Sample
from recsys.evaluate.positives import Task, index, read_task
from recsys.evaluate.ranking import Segment
from recsys.evaluate.vectors import Vectors

K = 20
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Validation:
    """The positives of split=valid in one segment."""

    task: Task
    segment: Segment
    row: Codes
    """[users of the task] the user's code in the graph plus 1, or 0."""

    @classmethod
    def read(cls, dataset: Path, graph: Graph, seed: int, segment: Literal["warm", "all"] = "warm") -> "Validation":
        """`seed` draws the order of equal scores. segment: which items are ranked.

        Raises:
            InputError: a file that is not as it should be, or no positive of the segment in split=valid.
        """
        task = read_task(dataset, "valid", seed)
        judged = ranking.segments_of(task)[segment]
        if not len(judged.user):
            raise InputError(f"{dataset}: split 'valid' has no positive row of a warm item: expected some to stop by")
        return cls(task, judged, index("user_id", graph.users).rows(task.users))

    def recall(self, users: Matrix, items: Matrix) -> float:
        """Mean Recall@20 over users with a positive, of vectors [U, D] and [I, D]; of unknown users those are zero."""
        vectors = np.concatenate([np.zeros_like(users[:1]), users])[self.row]
        unknown = np.zeros(len(items), bool)
        options = Evaluate(top_k=[K])
        judged = ranking.rank(
            self.task, [Vectors(vectors, items, self.row == 0, unknown)], {"": self.segment}, options, sample=False
        )
        sample = Sample.of(self.segment.user, self.segment.item, np.ones(len(self.segment.user), np.int8))
        full, _ = judged[""][0]
        each = gains.contributions(sample, full, full, options)[0]
        return float(each @ gains.shares(sample, np.ones(sample.users, np.float32), np.ones(sample.items, np.float32)))
