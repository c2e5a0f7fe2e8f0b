"""What a generated log is like (`tools.generate`). It is a file of its own beside the configs that read the log."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Above, Amount, Natural, Positive, Share

_PRIME = 2**31 - 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Generate:
    """Users, items and days of a log, and the chance of a click."""

    path: str = "data/generated-logs"
    """Folder of users.parquet, items/day=*, interactions/day=* and truth/day=*."""
    days: Positive = 5
    """Days of log, from day 0. More of them can be asked for later: those that are there stay as they are."""
    rows_a_day: Positive = 100_000
    """Impressions a day."""
    users: Annotated[int, Field(ge=1, lt=_PRIME)] = 10_000
    """Users; the k-th most active has a share in proportion to k^-user_zipf."""
    items: Positive = 2_000
    """Items at the start of day 0, up to `oldest` days old."""
    new_items: Natural = 100
    """Items that appear at the start of each later day."""
    oldest: Positive = 30
    """Days."""
    user_zipf: Amount = 0.8
    """Exponent of the activity of users."""
    item_zipf: Amount = 0.8
    """Exponent of the popularity of items of one age."""
    half_life: Above = 10.0
    """Days in which an item's popularity halves."""
    topics: Positive = 24
    """Topics; an item has one, a user is interested in three at a time."""
    drift: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Chance that one interest of a user gives way to another from one day to the next."""
    targeted: Share = 0.4
    """Share of impressions whose item is drawn from one of the user's topics; the others are drawn from all items."""
    base: Annotated[float, Field(allow_inf_nan=False)] = -2.0
    """Logit of a click of an average user on an average item of another topic."""
    taste: Amount = 2.0
    """What is added to it for an item of the user's first topic; of the second and third, 0.7 and 0.5 of it."""
    spread: Amount = 0.5
    """Standard deviation, over users and over items, of what is added to all of their logits."""
    words: Positive = 16
    """Words of an item's text, three in five of them of its topic."""
    start: Natural = 1_704_067_200
    """Second at which day 0 starts, since 1970; the default is 2024-01-01."""
    seed: Natural = 0
    """Draws everything; the same settings give the same rows."""
