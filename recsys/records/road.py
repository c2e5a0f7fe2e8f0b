"""Record `road-movielens`: every system alone and all together, beside the floor, by exposure and along a replay.

Rankers, proxies and simulated rows are those of records `idproxy-movielens` and `simulated-movielens`.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recsys.evaluate import draws, results, warmup
from recsys.records import simulated
from recsys.records.lines import row

SEEDS = (0, 1, 2)
EXPOSURES = (0, 2, 8, 20)
SEEN = ("seen=0", "seen=1", "seen=2", "seen=4", "seen=8", "seen=16", "seen=32", "seen=64")
FOLDER = Path("runs/records/road-movielens")
FLOOR = {
    "means": "user and item means",
    "base": "base, new rows fine-tuned",
    "ridge": "ridge from content, then fine-tuned",
}
ALONE = {
    "idproxy": "proxies, new rows fine-tuned",
    "simulated": "simulated users",
    "promo": "read off the first rows, then fine-tuned",
}
SYSTEMS = {**FLOOR, **ALONE, "road": "all together: proxies, and rows read off and fine-tuned"}
REPLAYED = ("base", "idproxy", "promo", "road")
_RANKS = "torchrun --nproc-per-node 2 -m"
_TUNED = shlex.quote("lifecycle.stages=[{rows: 0, source: start}, {rows: 1, source: tuned}]")


def commands(content: str) -> list[str]:
    """Of all draws. content: Parquet with the movies' overviews."""
    return [command for seed in SEEDS for command in (*_exposed(seed, content), *_replay(seed, content))]


def _exposed(seed: int, content: str) -> Iterator[str]:
    base, proxied = _words(seed, "base", content), _words(seed, "v5", content)
    for exposure in EXPOSURES:
        yield f"python -m tools.floor {base} --system means --exposure {exposure}"
        yield f"python -m tools.floor {base} --system ridge --exposure {exposure}"
        if exposure:
            yield from (
                f"python -m tools.floor {one} --system finetune --exposure {exposure}" for one in (base, proxied)
            )
            yield f"{_RANKS} tools.lifecycle {base} lifecycle.name=promo --exposure {exposure}"
            yield f"{_RANKS} tools.lifecycle {proxied} --exposure {exposure}"
        scores = " ".join(f"--scores {name}={_scores(seed, name, exposure)}" for name in _systems(exposure))
        segments = f"--only n={exposure}" + ("" if exposure else " --only warm --only 100+")
        for rival in ("base", "ridge"):
            asked = f"--against {rival} --exposure {exposure} {segments} --out {_judged(seed)}"
            yield f"python -m tools.evaluate {base} {scores} {asked}"


def _replay(seed: int, content: str) -> Iterator[str]:
    for name in REPLAYED:
        ranker = "v5" if name in ("idproxy", "road") else "base"
        stages = f" {_TUNED}" if name in ("base", "idproxy") else ""
        yield f"{_RANKS} tools.lifecycle {_words(seed, ranker, content)} lifecycle.name={name}{stages} --replay"
    scores = " ".join(f"--scores {name}={_walked(seed, name)}" for name in REPLAYED)
    out = f"--by impressions --out {_judged(seed)}"
    yield f"python -m tools.evaluate {_words(seed, 'base', content)} {scores} {out}"


def _systems(exposure: int) -> list[str]:
    """Simulated users were given none and two rows; without feedback there is nothing to read."""
    left_out = {"promo"} if not exposure else set() if exposure == 2 else {"simulated"}
    return [name for name in SYSTEMS if name not in left_out]


def _scores(seed: int, system: str, exposure: int) -> Path:
    base, proxied = (simulated.run_of(seed, "liked", ranker) for ranker in ("base", "v5"))
    if system == "simulated":
        return simulated.scores_of(seed, "liked", "simulated", exposure)
    if system in ("means", "ridge"):
        return base / f"floor/{system}/n={exposure}"
    run = proxied if system in ("idproxy", "road") else base
    if not exposure:
        return run / "scores/test"
    if system in ("base", "idproxy"):
        return run / f"floor/finetune/n={exposure}"
    return run / f"lifecycle/{system}/n={exposure}/scores.parquet"


def _walked(seed: int, system: str) -> Path:
    run = simulated.run_of(seed, "liked", "v5" if system in ("idproxy", "road") else "base")
    return run / f"lifecycle/{system}/replay/scores.parquet"


def _judged(seed: int) -> Path:
    return FOLDER / f"seed-{seed}.json"


def _words(seed: int, ranker: str, content: str) -> str:
    return f"{simulated.CONFIG} {simulated.words_of(seed, 'liked', ranker, content)}"


def table() -> str:
    """AUC and GAUC by exposure, differences to the floor, and the warm-up curve with the impressions that it saves."""
    found = draws.combine([results.read(_judged(seed)) for seed in SEEDS])
    lines: list[str] = []
    segments = tuple(f"n={n}" for n in EXPOSURES)
    for metric, title in (("auc", "AUC"), ("gauc", "GAUC (within users)")):
        lines += [f"| {title} | " + " | ".join(segments) + " |", "|---" * (len(segments) + 1) + "|"]
        lines += [row(told, found["systems"][name], segments, ".4f", (metric,)) for name, told in SYSTEMS.items()]
        for name in (*ALONE, "road"):
            for rival in ("base", "ridge"):
                change = found["differences"][f"{name} - {rival}"]
                lines.append(row(f"{name} − {rival}", change, segments, "+.4f", (metric,)))
        lines.append("")
    lines += ["| warm items | AUC | GAUC |", "|---|---|---|"]
    for segment in ("warm", "100+"):
        change = found["differences"]["road - base"]
        lines.append(row(f"road − base, {segment}", {segment: change[segment]}, (segment,), "+.4f"))
    lines += ["", *_curve(found)]
    counts = found["systems"]["road"]["n=0"]
    lines.append(
        f"{found['dataset']}, {found['split']}, seeds {', '.join(map(str, SEEDS))} (each draws other new items and "
        f"weights); {counts['rows']:,} rows and {counts['users']:,} users with both classes a draw; two-way bootstrap "
        f"95 % intervals {found['interval']}. The replay walks the new items' test rows in time order; the base was "
        "trained on each user's first half, whichever second that ended in."
    )
    return "\n".join(lines)


def _curve(found: draws.Results) -> list[str]:
    lines = ["| replay, AUC | " + " | ".join(SEEN) + " |", "|---" * (len(SEEN) + 1) + "|"]
    lines += [row(SYSTEMS[name], found["systems"][name], SEEN, ".4f", ("auc",)) for name in REPLAYED]
    lines += [
        row(f"{name} − base", found["differences"][f"{name} - base"], SEEN, "+.4f", ("auc",)) for name in REPLAYED[1:]
    ]
    lines += ["", "| AUC that it has after | " + " | ".join(SEEN[:5]) + " |", "|---" * 6 + "|"]
    seen = np.array([int(name.removeprefix("seen=")) for name in SEEN])
    reached = {name: np.array([found["systems"][name][one]["auc"][0] for one in SEEN]) for name in REPLAYED}
    for name in REPLAYED[1:]:
        cells = [warmup.told(warmup.impressions(seen, reached["base"], level)) for level in reached[name][:5]]
        lines.append(f"| {SYSTEMS[name]}: impressions that the fine-tuned base needs | " + " | ".join(cells) + " |")
    return [*lines, ""]
