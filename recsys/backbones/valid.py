"""What is chosen by on split=valid: Recall@20 or HitRate@10 of a segment, as `recsys.evaluate.ranking` has them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.backbones.graph import Codes, Graph
from recsys.config import Evaluate
from recsys.errors import InputError
from recsys.evaluate import gains, matrix, ranking, sampled
from recsys.evaluate.bootstrap import Sample
from recsys.evaluate.positives import Task, index, read_task
from recsys.evaluate.ranking import Segment, System
from recsys.evaluate.vectors import Vectors

K, SAMPLED_K = 20, 10
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
        return self._mean(users, items, Evaluate(top_k=[K], sampled_k=[SAMPLED_K]), sample=False)

    def hit_rate(self, users: Matrix, items: Matrix, options: Evaluate) -> float:
        """Mean HitRate@10 among sampled negatives, of the same."""
        return self._mean(users, items, replace(options, top_k=[K], sampled_k=[SAMPLED_K]), sample=True)

    def hit_rate_of(self, scores: Matrix, options: Evaluate) -> float:
        """The same, of scores [users of the task, I]: those of others than `candidates` are not read."""
        nothing = np.zeros(0, bool)
        system = matrix.Matrix(scores, nothing, nothing)
        return self._judge(system, replace(options, top_k=[1], sampled_k=[SAMPLED_K]), sample=True)

    def candidates(self, options: Evaluate) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """What `hit_rate` compares, each pair once: positions among the users of the task [n], and item codes [n]."""
        judged = np.unique(self.segment.user)
        drawn = sampled.draw(
            self.task.users.take(judged),
            self.task.liked.take(judged),
            self.segment.candidates,
            options.negatives,
            options.seed,
        )
        user = np.concatenate([self.segment.user, np.repeat(judged, drawn.shape[1])])
        return user, np.concatenate([self.segment.item, drawn.ravel()])

    def require_negatives(self, options: Evaluate) -> None:
        """Raises InputError where a user has too few items for `hit_rate` to sample from."""
        judged = np.unique(self.segment.user)
        sampled.require(
            self.task.users.take(judged), self.task.liked.take(judged), self.segment.candidates, options.negatives
        )

    def _mean(self, users: Matrix, items: Matrix, options: Evaluate, sample: bool) -> float:
        vectors = np.concatenate([np.zeros_like(users[:1]), users])[self.row]
        return self._judge(Vectors(vectors, items, self.row == 0, np.zeros(len(items), bool)), options, sample)

    def _judge(self, system: System, options: Evaluate, sample: bool) -> float:
        (ranks,) = ranking.rank(self.task, [system], {"": self.segment}, options, sample)[""]
        judged = Sample.of(self.segment.user, self.segment.item, np.ones(len(self.segment.user), np.int8))
        each = gains.contributions(judged, ranks[0], ranks[1] if sample else ranks[0], options)[2 if sample else 0]
        return float(each @ gains.shares(judged, np.ones(judged.users, np.float32), np.ones(judged.items, np.float32)))
