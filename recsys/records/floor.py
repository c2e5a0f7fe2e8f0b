"""Record `floor-movielens`: the floor that every cold-start method must beat, by kept rows of the new items."""

from pathlib import Path
from typing import Any

from recsys.evaluate import draws, results
from recsys.floor import about

CONFIG = "configs/movielens-1m.yaml"
EXPOSURES = (0, 2, 8, 20, 40, 60)
SEEDS = (0, 1, 2)
FOLDER = Path("runs/records/floor-movielens")
VECTORS = FOLDER / "overviews.parquet"
SYSTEMS = {
    "base": "base, as it is",
    "means": "user and item means",
    "finetune": "base, new rows fine-tuned",
    "ridge": "ridge from titles and genres, then fine-tuned",
    "ridge-overviews": "ridge from overviews too, then fine-tuned",
}


def commands(content: str | None) -> list[str]:
    """Base, systems and judgement for every draw. content: Parquet with the movies' overviews, if there is one."""
    asked = []
    if content:
        described = f"{CONFIG} data.path=data/movielens-1m-overviews data.source.content={content}"
        asked += [f"python -m tools.prepare {described}", f"python -m tools.content {described} --out {VECTORS}"]
    for seed in SEEDS:
        drawn = _drawn(seed)
        asked.append(f"python -m tools.prepare {drawn}")
        asked += [f"torchrun --nproc-per-node 2 -m tools.{tool} {drawn}" for tool in ("train", "predict")]
        for exposure in EXPOSURES:
            scored = [f"--system {system} --exposure {exposure}" for system in ("means", "finetune", "ridge")]
            if content:
                scored.append(f"--system ridge --name ridge-overviews --exposure {exposure} floor.content={VECTORS}")
            asked += [f"python -m tools.floor {drawn} {one}" for one in scored]
            asked.append(_judge(seed, exposure, bool(content)))
    return asked


def table(content: str | None) -> str:
    """AUC and GAUC of the new items' rows by kept rows, with intervals and the gradient steps behind each."""
    systems = _systems(bool(content))
    found = draws.combine([results.read(FOLDER / f"seed-{seed}.json") for seed in SEEDS])
    lines = []
    for metric, title in (("auc", "AUC"), ("gauc", "GAUC (within users)")):
        lines += [f"| {title} | " + " | ".join(f"n={n}" for n in EXPOSURES) + " |", "|---" * (len(EXPOSURES) + 1) + "|"]
        for system in systems:
            cells = [_cell(found["systems"][system], system, n, metric) for n in EXPOSURES]
            lines.append(f"| {SYSTEMS[system]} | " + " | ".join(cells) + " |")
        lines.append("")
    counts = found["systems"]["base"]["n=0"]
    lines.append(
        f"{found['dataset']}, {found['split']}, seeds {', '.join(map(str, SEEDS))} (each draws other new items and "
        f"weights); {counts['rows']:,} rows and {counts['users']:,} users with both classes a draw, the same at every "
        "n; two-way bootstrap 95 % intervals, ends averaged over the draws. Under a value the gradient steps that made "
        "it from the trained base, mean of the draws; *base, as it is* never sees the kept rows."
    )
    return "\n".join(lines)


def _systems(content: bool) -> list[str]:
    return [system for system in SYSTEMS if content or system != "ridge-overviews"]


def _drawn(seed: int) -> str:
    """The config of a draw; the first is the demo's, trained once for both."""
    if seed == 0:
        return f"{CONFIG} run={_run(seed)}"
    return f"{CONFIG} run={_run(seed)} data.path=data/movielens-1m-seed{seed} data.split.seed={seed} train.seed={seed}"


def _run(seed: int) -> str:
    return f"runs/records/movielens-1m-seed{seed}" if seed else "runs/demo"


def _judge(seed: int, exposure: int, content: bool) -> str:
    scores = [f"--scores base={_run(seed)}/scores/test"]
    scores += [f"--scores {system}={_run(seed)}/floor/{system}/n={exposure}" for system in _systems(content)[1:]]
    where = f"--exposure {exposure} --only n={exposure} --out {FOLDER}/seed-{seed}.json"
    return f"python -m tools.evaluate {_drawn(seed)} {' '.join(scores)} {where}"


def _cell(by_segment: dict[str, Any], system: str, exposure: int, metric: str) -> str:
    value, low, high = by_segment[f"n={exposure}"][metric]
    cell = f"{value:.4f} [{low:.4f}, {high:.4f}]"
    if system == "base":
        return cell
    told = [about.read(Path(_run(seed)) / "floor" / system / f"n={exposure}") for seed in SEEDS]
    note = "" if all(one.converged for one in told) else ", not converged"
    return f"{cell}<br>{sum(one.gradient_steps for one in told) / len(told):.0f} steps{note}"
