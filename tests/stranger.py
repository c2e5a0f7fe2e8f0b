"""Logs as somebody else has them: one CSV of clicks and one of videos, ids that are words, no users, texts of half.

Videos are liked or not, by all alike; half of them have a title, which tells.
"""

import csv
import re
from pathlib import Path

import numpy as np

_README = (Path(__file__).parents[1] / "README.md").read_text()
_WAY = re.search(r"^```yaml\n(.*?)^```$\n\n^```\n(.*?)^```$", _README, re.M | re.S)
assert _WAY, "README.md: expected the config and the command of 'Your own data'"
CONFIG, COMMAND = _WAY.groups()
"""What the README shows, to the letter."""
USERS, ITEMS, ROWS = 120, 50, 6000
TOPICS = ("kittens", "football", "cooking", "trains")


def write(home: Path, seed: int = 0) -> None:
    """The logs and the config `mine.yaml`, in a folder."""
    draw = np.random.default_rng(seed)
    topic = draw.integers(len(TOPICS), size=ITEMS)
    user, item = draw.integers(USERS, size=ROWS), draw.integers(ITEMS, size=ROWS)
    clicked = draw.random(ROWS) < np.where(topic[item] < len(TOPICS) // 2, 0.9, 0.1)
    device = draw.choice(["phone", "tv", ""], ROWS)
    (home / "logs").mkdir(parents=True)
    for part, rows in enumerate(np.array_split(np.arange(ROWS), 2)):
        with (home / "logs" / f"part-{part}.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["uid", "video", "shown_at", "clicked", "device"])
            out.writerows(
                [f"user-{user[k]:x}", _video(item[k]), _day(k), int(clicked[k]), device[k]] for k in rows.tolist()
            )
    with (home / "videos.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["video", "name", "tags"])
        for k in range(ITEMS):
            told = k % 2 == 0
            name = f'"{TOPICS[topic[k]]}", part {k}' if told else ""
            out.writerow([_video(k), name, f"{TOPICS[topic[k]]}|video" if told else ""])
    (home / "mine.yaml").write_text(CONFIG)


def _video(k: int) -> str:
    return f"vid_{k * 7919 % 10007:04x}é"


def _day(k: int) -> str:
    return f"2024-03-{1 + k * 28 // ROWS:02d} {k * 24 // ROWS % 24:02d}:{k % 60:02d}:{k // 60 % 60:02d}"
