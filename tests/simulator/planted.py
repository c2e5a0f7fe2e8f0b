"""Users with tastes and items whose content tells of them; some items are cold, and who would take those is known."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from recsys.config import Config
from recsys.settings import parse

USERS, ITEMS, COLD, TASTES, TAKEN = 120, 100, 20, 4, 15
"""TAKEN: users of an item."""
_random = np.random.default_rng(0)
TASTE = _random.normal(size=(USERS, TASTES)).astype(np.float32)
CONTENT = _random.normal(size=(ITEMS, TASTES)).astype(np.float32)
"""The last COLD items are cold."""
TAKERS: NDArray[np.int64] = np.argsort(-(CONTENT @ TASTE.T), axis=1)[:, :TAKEN]
"""[ITEMS, TAKEN] codes of the users who take an item, those of a cold one in the future."""
USER_IDS = [f"u{k:03}" for k in range(USERS)]
ITEM_IDS = [f"i{k:03}" for k in range(ITEMS)]


def write(folder: Path) -> Path:
    """The dataset directory with a file of content vectors and a host's vectors in it; returns its path."""
    part = folder / "interactions" / "split=train"
    part.mkdir(parents=True)
    item, user = np.repeat(np.arange(ITEMS - COLD), TAKEN), TAKERS[: ITEMS - COLD].ravel()
    idle = np.setdiff1d(np.arange(USERS), user)
    user, item = np.append(user, idle), np.append(item, np.zeros(len(idle), int))
    rows = {
        "user_id": [USER_IDS[one] for one in user],
        "item_id": [ITEM_IDS[one] for one in item],
        "timestamp": np.arange(len(user)),
        "label": np.append(np.ones(len(user) - len(idle)), np.zeros(len(idle))).astype(np.int8),
    }
    pq.write_table(pa.table(rows), part / "part-00000.parquet")
    pq.write_table(pa.table({"item_id": ITEM_IDS[-COLD:]}), folder / "held_out.parquet")
    titles = [f"film {k} of toys" for k in range(ITEMS)]
    pq.write_table(pa.table({"item_id": ITEM_IDS, "title": titles}), folder / "items.parquet")
    (folder / "settings.yaml").write_text(
        yaml.safe_dump({"label": {"rule": "observed"}, "split": {"rule": "exposure"}})
    )
    noisy = CONTENT + 5 + 0.1 * np.random.default_rng(1).normal(size=CONTENT.shape)
    pq.write_table(
        pa.table({"item_id": ITEM_IDS, "vector": list(noisy.astype(np.float32))}), folder / "content.parquet"
    )
    vectors(folder / "host", {"user_id": (USER_IDS, 2 * TASTE), "item_id": (ITEM_IDS[:-COLD], 3 * CONTENT[:-COLD])})
    return folder


def vectors(folder: Path, sides: dict[str, tuple[list[str], NDArray[np.float32]]]) -> Path:
    """A folder of vectors by side."""
    folder.mkdir()
    for name, (ids, values) in sides.items():
        pq.write_table(pa.table({"id": ids, "vector": list(values)}), folder / f"{name}.parquet")
    return folder


def config(home: Path, judge: Path, **filter_: object) -> Config:
    """The filter's settings for it, which learn it in seconds; `judge` is a tiny language model."""
    data = home / "data"
    options = {
        "host": str(data / "host"),
        "content": str(data / "content.parquet"),
        "width": 8,
        "hidden": [16],
        "lr": 0.02,
        "batch": 256,
        "epochs": 25,
        "patience": 25,
        "left_out": 0.2,
        "coupled": 64,
        **filter_,
    }
    asked = {"name": str(judge), "bf16": False, "batch_size": 16}
    prompt = {"template": "{title}", "history": 20, "history_tokens": 8, "tokens": 40}
    simulator = {"filter": options, "judge": asked, "prompt": prompt}
    return parse({"run": str(home / "run"), "data": {"path": str(data)}, "features": [], "simulator": simulator})
