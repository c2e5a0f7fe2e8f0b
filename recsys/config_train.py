"""The part of the config that says how the ranker is trained."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Amount, Natural, Positive, Share

Decay = Annotated[
    Literal["linear", "cosine", "constant"],
    # Runs begun when it was a switch have that in their config.
    BeforeValidator(lambda given: {True: "linear", False: "constant"}[given] if isinstance(given, bool) else given),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Group:
    """What trains the parameters that a name pattern matches; a name belongs to the first group that matches it."""

    pattern: str
    """A table's name (`item_id`), or a dense parameter's (`ranker.dense_arch.top.*`); `*`, `?` and `[...]` as in a
    shell. One that matches nothing is an error."""
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    """Of dense parameters; None is adam. Tables keep row-wise Adagrad, whose sums travel with their rows."""
    lr: Amount | None = None
    """Learning rate; None is `train.lr`, of a table `train.table_lr`."""
    weight_decay: Amount | None = None
    """L2 (adamw: decoupled from the gradient); None is `train.weight_decay`, of a table `train.table_weight_decay`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Train:
    """The training loop."""

    batch_size: Positive = 2048
    """Rows a step on each rank."""
    epochs: Positive = 3
    """Passes over the training rows."""
    seed: Natural = 0
    """Draws the initial weights, the order of rows, dropout, the hidden ids and the negatives that are kept."""
    lr: Amount = 0.002
    """Adam, for everything but the tables."""
    table_lr: Amount = 0.05
    """Row-wise Adagrad, fused into the tables' backward."""
    weight_decay: Amount = 0.0
    """L2 on the dense parameters."""
    table_weight_decay: Amount = 0.0
    """L2 on the rows touched by a step."""
    groups: list[Group] = field(default_factory=list)
    """Parameters with an optimizer or rates of their own, by name pattern."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of all planned steps over which both learning rates rise linearly to their full height."""
    decay: Decay = "linear"
    """How both learning rates fall after that, to reach zero at the end of the last epoch: linear or cosine; constant:
    they do not."""
    clip: Amount = 0.0
    """Largest L2 norm of the dense part's gradient, which is scaled down to it; 0 is no limit. Tables step within
    backward, before any norm over all of them is known, and are not clipped."""
    accumulate: Positive = 1
    """Steps whose mean gradient makes one step of the dense part, as of a batch so many times as large. Tables step
    within backward, at every step. The last one before a validation takes what there is."""
    hide_ids: Share = 0.05
    """Share of items in a batch whose id is replaced by the unknown row, which so learns to stand for a new item."""
    hide_users: Share = 0.0
    """The same for the user's id: it keeps the ranker from leaning on an id whose owner has moved on or is new."""
    keep_negatives: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the rows of label 0 that an epoch trains on, drawn anew for each. The loss is that of the rows kept, for
    a logit that is lower by ln(share) in the ranker itself: its probabilities stay those of all rows."""
    weight: str | None = None
    """A column of numbers from 0 on in the training rows: what a row's loss is multiplied by. The sum over a batch is
    divided by its rows: weights with a mean of 1 leave the learning rates what they were. Validation weighs all alike.
    """
    shuffle_rows: Natural = 65536
    """Rows held in the shuffle buffer of each rank."""
    evals_per_epoch: Positive = 2
    """Validations (and checkpoints) an epoch."""
    patience: Positive = 3
    """Stop after this many validations without a better AUC; the best checkpoint is kept."""
    keep: Positive = 2
    """Checkpoints kept, besides the best. A damaged one is stepped over for the one before it: keep 2 or more."""
    timeout: Positive = 900
    """Seconds that ranks wait for one that does not get on; then the run ends, and says which rank and in what step.
    More than the longest of these takes: the scan of all labels under `keep_negatives` at the start, a step, a batch
    of validation, the writing of a checkpoint, a delta; and for the last two as long as another command (of
    `tools.delta`, say) may hold the lock on the run."""
    bf16: bool = False
    """Run the dense part under bfloat16 autocast."""
    max_steps: Natural = 0
    """Stop early after so many steps; 0 is no limit."""
    profile: Natural = 0
    """Steps that torch's profiler records after the first two, into `<run>/profile/rank-<n>.json` for a trace viewer;
    0 is none."""
