"""A user's newest known state, against what a plain loop over split=train finds."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Data, Label
from simulator import states
from simulator.interactions import Interactions

LONGEST = 4
COLUMNS = ["user_id", "item_id", "label", "history", "history_label", "history_count", "history_liked", "device"]


def write(folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Split=train of 6 users, many of whose rows share a second; the rows."""
    order = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(60):
        count = int(order.integers(0, 9))
        length = min(count, LONGEST)
        rows.append(
            {
                "user_id": int(order.integers(6)),
                "item_id": f"i{order.integers(20)}",
                "timestamp": int(order.integers(4)),
                "label": int(order.integers(2)),
                "value": None if order.random() < 0.2 else float(order.integers(1, 6)),
                "history": [f"i{k}" for k in order.integers(0, 20, length)],
                "history_label": order.integers(0, 2, length).tolist(),
                "history_count": count,
                "history_liked": float(order.random()) if count else None,
                "device": f"d{order.integers(3)}",
            }
        )
    part = folder / "interactions" / "split=train"
    part.mkdir(parents=True)
    kinds = {"label": pa.int8(), "history_count": pa.int32(), "history_liked": pa.float32(), "value": pa.float32()}
    table = pa.Table.from_pylist(rows)
    table = table.cast(pa.schema([pa.field(f.name, kinds.get(f.name, f.type)) for f in table.schema]))
    pq.write_table(table[:25], part / "part-00000.parquet", row_group_size=7)
    pq.write_table(table[25:], part / "part-00001.parquet", row_group_size=9)
    return rows


def by_hand(rows: list[dict[str, Any]], user: int, rule: str) -> dict[str, Any]:
    newest = max(row["timestamp"] for row in rows if row["user_id"] == user)
    now = [row for row in rows if row["user_id"] == user and row["timestamp"] == newest]
    state = dict(now[-1])
    seen = [row for row in now if rule != "observed" or row["label"]]

    def liked(row: dict[str, Any]) -> int:
        return int(row["value"] is None or row["value"] >= 3) if rule == "observed" else row["label"]

    count = state["history_count"] + len(seen)
    total = (state["history_liked"] or 0.0) * state["history_count"] + sum(map(liked, seen))
    state["history"] = (state["history"] + [row["item_id"] for row in seen])[-LONGEST:]
    state["history_label"] = (state["history_label"] + [liked(row) for row in seen])[-LONGEST:]
    state["history_count"], state["history_liked"] = count, pytest.approx(total / count, rel=1e-6) if count else None
    return {name: state[name] for name in COLUMNS if name not in ("item_id", "label")}


@pytest.mark.parametrize("rule", ["liked", "column", "observed"])
@pytest.mark.parametrize("seed", range(4))
def test_the_newest_state_is_the_one_found_by_hand(tmp_path: Path, rule: Any, seed: int) -> None:
    rows = write(tmp_path, seed)
    users = sorted({row["user_id"] for row in rows})[::-2]
    data = Data(path=str(tmp_path), history=LONGEST, label=Label(rule=rule, threshold=3))
    wanted = [name for name in COLUMNS if name not in ("item_id", "label")]
    found = states.newest(data, pa.array(users), wanted)
    assert found.column_names == wanted
    assert found.to_pylist() == [by_hand(rows, user, rule) for user in users]
    alone = states.newest(data, pa.array(users), ["device", "history_liked"])
    assert alone.to_pylist() == found.select(["device", "history_liked"]).to_pylist()


def test_simulated_rows_are_states_with_an_item_and_a_label(tmp_path: Path) -> None:
    rows = write(tmp_path)
    data = Data(path=str(tmp_path), history=LONGEST, label=Label(rule="liked"))
    users = pa.array(sorted({row["user_id"] for row in rows}))
    label = np.array([1, 0, 1, 1], np.int8)
    pairs = Interactions(users, pa.array(["x", "y"]), np.array([3, 0, 3, 1]), np.array([0, 0, 1, 1]), label)
    found = states.simulated(data, pairs, slice(1, 4), COLUMNS).to_pylist()
    for row, user, item, told in zip(found, [0, 3, 1], ["x", "y", "y"], [0, 1, 1], strict=True):
        assert row == {**by_hand(rows, user, "liked"), "item_id": item, "label": told}
    assert states.simulated(data, pairs, slice(2, 2), COLUMNS).num_rows == 0
