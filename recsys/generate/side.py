"""What is known of generated users and items: texts of made-up words by topic, and a few fields."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config_generate import Generate
from recsys.generate import world
from recsys.generate.rows import DAY
from recsys.generate.world import Ids, uniform

TITLE = 3
"""Words of a title."""
OWN = 0.6
"""Share of a text's words that are of its topic."""
_OF_TOPIC, _COMMON, _MAKERS, _COUNTRIES = 60, 600, 12, 40
_WORD, _KIND, _MAKER, _PRICE, _COUNTRY, _AGE = range(20, 26)
_SYLLABLES = np.array([c + v for c in "bdfgklmnprstvz" for v in "aeiou"])


def users(ids: Ids, config: Generate) -> pa.Table:
    """user_id, country, age, and `interest`, the name of what was dearest to each on day 0."""
    country = (uniform(ids, config, _COUNTRY) ** 2 * _COUNTRIES).astype(np.int64)
    return pa.table(
        {
            "user_id": ids,
            "country": pa.array([f"country {k}" for k in range(_COUNTRIES)]).take(pa.array(country)),
            "age": 16 + (uniform(ids, config, _AGE) * 60).astype(np.int64),
            "interest": _topic_names(config).take(pa.array(world.interests(ids, 0, config)[:, 0])),
        }
    )


def items(ids: Ids, config: Generate) -> pa.Table:
    """item_id, title, text, categories (its topic), first_seen in seconds, maker and price."""
    topic = world.topics(ids, config)
    words = _words(ids, topic, config)
    maker = topic * _MAKERS + (uniform(ids, config, _MAKER) ** 2 * _MAKERS).astype(np.int64)
    makers = pa.array([f"maker {k}" for k in range(config.topics * _MAKERS)])
    names = _topic_names(config).take(pa.array(topic))
    return pa.table(
        {
            "item_id": ids,
            "title": _joined(words[:, :TITLE], config),
            "text": _joined(words[:, TITLE:], config),
            "categories": pa.ListArray.from_arrays(pa.array(np.arange(len(ids) + 1, dtype=np.int32)), names),
            "first_seen": config.start + world.born(ids, config) * DAY,
            "maker": makers.take(pa.array(maker)),
            "price": np.round(np.exp(2.0 + world.normal(ids, config, _PRICE)), 2).astype(np.float32),
        }
    )


def _words(ids: Ids, topic: Ids, config: Generate) -> NDArray[np.int64]:
    """[n, TITLE + words] places in the vocabulary; those of a title are all of its topic."""
    place = ids[:, None] * (TITLE + config.words) + np.arange(TITLE + config.words)
    draws = uniform(place.ravel(), config, _WORD).reshape(place.shape)
    own = uniform(place.ravel(), config, _KIND).reshape(place.shape) < OWN
    own[:, :TITLE] = True
    of_topic = topic[:, None] * _OF_TOPIC + (draws * _OF_TOPIC).astype(np.int64)
    return np.where(own, of_topic, config.topics * _OF_TOPIC + (draws * _COMMON).astype(np.int64))


def _joined(words: NDArray[np.int64], config: Generate) -> pa.Array:
    offsets = np.arange(len(words) + 1, dtype=np.int32) * words.shape[1]
    spelled = _spelled(np.arange(config.topics * _OF_TOPIC + _COMMON)).take(pa.array(words.ravel()))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), spelled), " ")


def _topic_names(config: Generate) -> pa.Array:
    return _spelled(np.arange(config.topics) * _OF_TOPIC)


def _spelled(words: NDArray[np.int64]) -> pa.Array:
    """Words of three syllables, each number its own."""
    count = len(_SYLLABLES)
    mixed = words * 101_501 % count**3  # a bijection, so that neighbours do not look alike
    first = np.char.add(_SYLLABLES[mixed // count**2], _SYLLABLES[mixed // count % count])
    return pa.array(np.char.add(first, _SYLLABLES[mixed % count]).tolist(), pa.string())
