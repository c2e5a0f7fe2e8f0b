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
    repeats: bool = True
    """Users may come back to an item. The scored user's place in a list is then given up in every row, taken or not: a
    list of k + 1 loses its last user, a list of 2 keeps 1. Where a user meets an item once, as in MovieLens, False
    keeps all; a row that would need it is refused."""
    popular: Positive = 50
    """Positive training events from which an item lends its list to similar items without positive feedback."""
    seed: Natural = 0
    """Orders events of one second, and draws the users that fill up lists of negative feedback."""
