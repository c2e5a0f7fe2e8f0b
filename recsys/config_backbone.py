"""The part of the config that says which model of papers' ranking tables is trained on the user-item graph, and how."""

from typing import Literal

from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Amount, Natural, Positive

Kind = Literal["mf", "ngcf", "lightgcn"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Backbone:
    """A model that knows users and items by their ids alone (`tools.backbone`)."""

    kind: Kind = "mf"
    """Matrix factorisation, or rows that are propagated over the graph of training positives."""
    width: Positive = 64
    """Width of a row."""
    layers: Positive = 3
    """ngcf, lightgcn: propagation steps."""
    lr: Amount = 2e-3
    """Adam's."""
    l2: Amount = 0.01
    """Pull of a batch's rows towards zero, a positive. The default is for mf on MovieLens-1M."""
    batch: Positive = 8192
    """Positives a step. ngcf, lightgcn propagate over the whole graph in every step: take up to 100000."""
    epochs: Positive = 300
    """Passes over the positives at most."""
    patience: Positive = 10
    """Stop after this many epochs without a better Recall@20 of warm items in split=valid; the best epoch is kept."""
    seed: Natural = 0
    """Draws the initial weights, the order of positives and the negatives."""
