"""The part of the config that says whose feedback speaks for an item with few rows (PROMO)."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from recsys.config_prompt_model import PromptModel, Retention, Tuning
from recsys.config_types import STRENGTHS, STRICT, Above, Natural, Positive, Tried


def _not_taken(name: str) -> str:
    if not name or name.startswith(".") or set(name) & set("/\\\0"):
        raise ValueError(f"{name!r}: expected the name of a folder")
    if name == "finetuned":
        raise ValueError(f"{name!r} is the fine-tuned base's own")
    return name


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Summary:
    """A map from what the first users of an item have in common to its ID vector, fitted on warm items."""

    items: Positive = 20_000
    """Warm items that it is fitted on at most."""
    draws: Positive = 4
    """Disjoint draws of an item's training rows that each stand for first feedback, where it has as many rows."""
    rows: Positive = 64
    """Rows of an item's feedback that are read at most, the first by `rank` where there is one, else the newest."""
    smoothing: Above = 5.0
    """Liked (disliked) items that an average history counts for in that of a user."""
    ridge: Tried = field(default_factory=lambda: [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    """Penalties tried on left-out items, in units of the mean eigenvalue of the summaries' second moments."""
    finetune: bool = False
    """Fine-tune the vectors on the same feedback, from what the map says of them."""
    prior: Tried = field(default_factory=lambda: list(STRENGTHS))
    """finetune: pull towards that; 1 takes the spread of the map's errors on left-out items at its word. Of several,
    that under which feedback left out is likeliest."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    """finetune: converged when a step improves the objective by a smaller share of it."""
    max_passes: Positive = 200
    """finetune: passes over the feedback at most."""
    seed: Natural = 0
    """Draws items and rows."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Prompt:
    """Pinnacle and negative feedback lists of each row, from strictly earlier seconds, never with the row's own user.

    What makes feedback high (equation 4 and its two weights) is the dataset's column `value`: MovieLens has the rating,
    KuaiRand-Pure the play ratio, at most 2, plus 1 for each of like, follow, comment and forward (both weights 1),
    logs of your own whatever `value` they bring.
    """

    k: Positive = 10
    """Users in a list."""
    by: Literal["value", "recency", "both"] = "value"
    """Which users with positive feedback are listed: those of the highest value, the newest, or the two in turn."""
    window: Positive = 256
    """Newest positive, and newest negative, events of an item among which its users are chosen."""
    even_lengths: bool = True
    """Every list gives up one place, the scored user's if it has one, else the last: a list of 2 keeps 1, and its
    length says nothing about the scored user. False: only the scored user's, which is nobody's where users meet an item
    once (MovieLens). Where they come back, the length of a short list then tells that its user gave feedback before;
    that is refused under data.label.rule=observed, whose drawn rows are of users who did not."""
    popular: Positive = 50
    """Positive training events from which an item lends its list to similar items without positive feedback; one with
    fewer is cold in the popularity-aware loss of `prompt.model`."""
    seed: Natural = 0
    """Orders events of one second, and draws the users that fill up lists of negative feedback."""
    summary: Summary = field(default_factory=Summary)
    """How a new item's vector is read off its first feedback (`tools.prompt`)."""
    model: PromptModel = field(default_factory=PromptModel)
    """The network."""
    tuning: Tuning = field(default_factory=Tuning)
    """How it is trained."""
    retention: Retention = field(default_factory=Retention)
    """What it forgets."""
    name: Annotated[str, AfterValidator(_not_taken)] = "code"
    """Folder of the network and its scores, in `<run>/prompt/<backbone.kind>`; of one beside the ranker, in
    `<run>/prompt/host`."""
