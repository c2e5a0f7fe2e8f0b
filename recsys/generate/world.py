"""Users and items of a generated log: activity, interests that drift, topics, popularity, and the chance of a click.

    P(click | u, i, day) = sigmoid(base + taste * sum_s w_s [topic_i = interest_us(day)] + a_u + q_i + c_device)

w = (1, 0.7, 0.5); a_u and q_i are normal. All of it is a closed form of (seed, id, day): nothing is kept from one day
to the next, so any part of a log can be made alone.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.config_generate import Generate
from recsys.data.splits import keys_at

Ids = NDArray[np.int64]
Doubles = NDArray[np.float64]

WEIGHTS = np.array([1.0, 0.7, 0.5])
"""Of a user's interests."""
DEVICES = ("phone", "tablet", "tv")
_DEVICE = np.array([0.0, -0.2, 0.3])
_PRIME = 2**31 - 1
_EPOCHS = 1 << 20
_TOPIC, _POPULARITY, _BORN, _QUALITY, _ACTIVITY, _PHASE, _INTEREST = range(10, 17)


def uniform(positions: Ids, config: Generate, salt: int) -> Doubles:
    """A number in (0, 1) for each position, always the same."""
    return ((keys_at(positions, config.seed, salt) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(positions: Ids, config: Generate, salt: int) -> Doubles:
    """A standard normal number for each position, always the same (Box and Muller)."""
    radius = np.sqrt(-2.0 * np.log(uniform(2 * positions, config, salt)))
    return radius * np.cos(2.0 * np.pi * uniform(2 * positions + 1, config, salt))


def topics(items: Ids, config: Generate) -> Ids:
    """[n] topic of each item."""
    return (uniform(items, config, _TOPIC) * config.topics).astype(np.int64)


def interests(users: Ids, day: int, config: Generate) -> Ids:
    """[n, 3] topics that each user is interested in on a day, the dearest first; two may be the same."""
    slots = users[:, None] * len(WEIGHTS) + np.arange(len(WEIGHTS))
    epoch = np.floor(day * config.drift + uniform(slots, config, _PHASE)).astype(np.int64)
    return (uniform(slots * _EPOCHS + epoch, config, _INTEREST) * config.topics).astype(np.int64)


def born(items: Ids, config: Generate) -> Ids:
    """[n] day at whose start each item appears; before 0 for those of the start."""
    before = -1 - (uniform(items, config, _BORN) * config.oldest).astype(np.int64)
    return np.where(items < config.items, before, 1 + (items - config.items) // max(config.new_items, 1))


def popularity(items: Ids, day: int, config: Generate) -> Doubles:
    """[n] weight of each item among the impressions of a day: a power law over items, halved every `half_life` days."""
    # The share of items above a weight w is w^(-1/zipf): the k-th heaviest has about (items / k)^zipf.
    age = day - born(items, config)
    return uniform(items, config, _POPULARITY) ** -config.item_zipf * 0.5 ** (age / config.half_life)


def active(draws: Doubles, config: Generate) -> Ids:
    """[n] users by numbers in [0, 1): Zipf over ranks (by continuous inversion), which are spread over the ids."""
    last, power = config.users + 1.0, 1.0 - config.user_zipf
    found = last**draws if abs(power) < 1e-9 else (1.0 + draws * (last**power - 1.0)) ** (1.0 / power)
    rank = np.clip(found.astype(np.int64) - 1, 0, config.users - 1)
    # A bijection: the prime is larger than the number of users.
    return rank * _PRIME % config.users


def chance(users: Ids, items: Ids, device: Ids, day: int, config: Generate) -> Doubles:
    """[n] probability that each user clicks the item on that day, shown on a device (a position in DEVICES)."""
    matches = interests(users, day, config) == topics(items, config)[:, None]
    own = normal(users, config, _ACTIVITY) + normal(items, config, _QUALITY)
    logit = config.base + config.taste * (matches @ WEIGHTS) + config.spread * own + _DEVICE[device]
    return 1.0 / (1.0 + np.exp(-logit))
