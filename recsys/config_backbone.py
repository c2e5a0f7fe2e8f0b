"""The part of the config that says which model of papers' ranking tables is trained, and how."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Amount, Natural, Positive

Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Above zero."""
Kind = Literal["mf", "ngcf", "lightgcn", "dssm", "sasrec"]
GRAPH_KINDS: tuple[Kind, ...] = ("mf", "ngcf", "lightgcn")
SEQUENCE_KINDS: tuple[Kind, ...] = ("dssm", "sasrec")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Backbone:
    """A model that knows users and items by their ids alone (`tools.backbone`).

    mf, ngcf and lightgcn know a user by an id and the graph of training positives; dssm and sasrec also, or only, by
    what they took before, in order of time.
    """

    kind: Kind = "mf"
    """Matrix factorisation; rows that are propagated over the graph; two towers; causal self-attention."""
    width: Positive = 64
    """Width of a row."""
    layers: Positive = 3
    """ngcf, lightgcn: propagation steps. dssm: hidden layers of a tower. sasrec: attention blocks."""
    heads: Positive = 1
    """sasrec: attention heads, a divisor of the width."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """dssm, sasrec."""
    history: Positive = 50
    """dssm, sasrec: newest positives that a user's vector follows from; training cuts longer sequences.
    data.history has to be longer, since it counts rows of either label."""
    negatives: Positive = 8
    """dssm, sasrec: negatives drawn for each positive, which together weigh as much as it does."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """dssm, sasrec: what is validated and serves is the moving average of the weights, which keeps this share of itself
    at each step; 0 is the weights themselves."""
    lr: Amount = 3e-3
    """Adam's."""
    l2: Amount = 0.015
    """mf, ngcf, lightgcn: pull of a batch's rows towards zero, a positive. The default is for mf on MovieLens-1M."""
    hardest_of: Positive = 4
    """mf, ngcf, lightgcn: negatives drawn for each positive, of which the one counts that the model ranks highest
    (dynamic negative sampling, Zhang et al., SIGIR 2013); 1 is the published BPR, which takes more epochs and ends
    lower."""
    batch: Positive = 8192
    """Positives a step; dssm, sasrec: sequences. ngcf, lightgcn propagate over the whole graph in every step: take up
    to 100000."""
    epochs: Positive = 300
    """Passes over the positives at most."""
    patience: Positive = 10
    """Stop after this many epochs without a better Recall@20 of warm items in split=valid (dssm, sasrec: HitRate@10
    among `evaluate.negatives` sampled ones); the best epoch is kept."""
    cold_scales: Annotated[list[Above], Field(min_length=1)] = field(
        default_factory=lambda: [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, 2.5, 3.0]
    )
    """What predicted vectors of cold items are multiplied by: of these the one with the highest Recall@20 of warm and
    cold items in split=valid."""
    seed: Natural = 0
    """Draws the initial weights, the order of positives, the negatives and dropout."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Backbone":
        if self.kind == "sasrec" and self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width {self.width}, got {self.heads}")
        return self
