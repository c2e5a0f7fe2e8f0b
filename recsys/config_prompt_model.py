"""The part of the config that says what PROMO's prompt network is: the paper's tables 3 and 4 as switches."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Amount, Natural, Positive, Sharding, Share, Widths

Fours = Annotated[int, Field(ge=4, multiple_of=4)]
"""A width of table rows."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PromptModel:
    """A network for each item, fed by its feedback, beside a frozen base."""

    information: Literal["pinnacle", "ids", "features", "both"] = "pinnacle"
    """What an item's network reads: vectors of the users of its pinnacle feedback; or, for the paper's table 3, the
    base's own vector of the item (PROMO-I), the item's features (PROMO-F), or both of these (PROMO-IF)."""
    network: Literal["item", "shared", "none"] = "item"
    """Whose the network is: each item's own; one for all items, without tables (PROMO-M of table 4); or nobody's: the
    mean of what would be read goes straight into the head (PROMO-T)."""
    parameters: Literal["code", "rows"] = "code"
    """item: how an item's parameters are held. code: a short code, of which one generator shared by all items makes
    them. rows: the paper read literally, a row of numbers for each layer, some 50 times as many bytes an item."""
    code: Fours = 32
    """code: R, numbers of an item's code."""
    hidden: Fours = 12
    """M: the network has layers D -> M -> D. rows: (M + 1) D and (D + 1) M are at most 1024."""
    last: Fours = 16
    """P: width of the last prompt embedding, which the head reads as it is."""
    noise: Amount = 0.01
    """Standard deviation of the initial codes, or of the rows around their common start."""
    head: Widths = field(default_factory=lambda: [64])
    """Hidden sizes of the MLP that makes the item's final vector."""
    pfpe: Amount = 0.01
    """Weight of the pinnacle-feedback prompt-enhanced loss (lambda_1 of eq. 13)."""
    pape: Amount = 0.01
    """Weight of the popularity-aware prompt-enhanced loss (lambda_2 of eq. 13)."""
    sharding: Sharding = "auto"
    """How the tables are laid over ranks: auto (row_wise or table_wise), or any that a bag takes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tuning:
    """How the network is trained beside a frozen base (`tools.prompt --network`)."""

    lr: Amount = 1e-3
    """Adam's, for all but the tables."""
    table_lr: Amount = 0.02
    """Row-wise Adagrad's, for the tables."""
    batch: Positive = 512
    """Training positives a step; beside the ranker, rows of either label a step on each rank."""
    negatives: Positive = 2
    """Beside a DSSM or SASRec: items drawn for each of them, which together weigh as much as it does."""
    epochs: Natural = 10
    """Passes over the training positives at most; of the base, too, where it is fine-tuned for comparison."""
    patience: Positive = 3
    """Stop after this many passes without a better HitRate@10 (beside the ranker: AUC) in split=valid. The best is
    kept, be it none at all: then the scores are the base's."""
    pose: Share = 0.5
    """Beside the ranker: share of a batch's items that pose as new, without their row of the item table and without
    their own of the network's. With any, split=valid is judged with all of its items so."""
    passes: Natural = 10
    """Beside the ranker: passes over a new item's feedback by which its own rows of the network's tables learn."""
    finetune: bool = False
    """Beside the ranker: new items are scored with ID vectors that were fine-tuned on the same feedback before (as by
    `tools.floor --system finetune`, under the keys of `floor`) in place of the unknown item's. The network is trained
    the same, and the ranker stays as it is."""
    seed: Natural = 0
    """Draws the initial weights, the order of positives and the negatives."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Retention:
    """Of how much pinnacle feedback is left as negative feedback comes in (`tools.prompt --retention`)."""

    pairs: Positive = 500
    """Pinnacle pairs of users and items that are drawn."""
    rounds: Positive = 5
    """How often it is measured, beside the start."""
    negatives: Positive = 10
    """Negative feedback on each of their items in a round."""
    batch: Positive = 512
    """Events a step."""
