"""The part of the config that says whose feedback speaks for an item with few rows (PROMO)."""

from typing import Literal

from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Natural, Positive


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
    """Positive training events from which an item lends its list to similar items without positive feedback."""
    seed: Natural = 0
    """Orders events of one second, and draws the users that fill up lists of negative feedback."""
