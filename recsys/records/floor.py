"""Record `floor-movielens`: the floor that every cold-start method must beat, by kept rows of the new items."""

from pathlib import Path
from typing import Any

from recsys.evaluate import draws, report, results
from recsys.floor import about
from recsys.records.commands import trained
from recsys.records.lines import METRICS, head
from recsys.tables import checkpoint

CONFIG = "configs/movielens-1m.yaml"
DESCRIBED = f"{CONFIG} data.path=data/movielens-1m-overviews"
"""The dataset whose texts are overviews too."""
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
    asked = _described(content) if content else []
    for seed in SEEDS:
        words = drawn(seed)
        asked.append(f"python -m tools.prepare {words}")
        asked += trained(words)
        for exposure in EXPOSURES:
            scored = [f"--system {system} --exposure {exposure}" for system in ("means", "finetune", "ridge")]
            if content:
                scored.append(f"--system ridge --name ridge-overviews --exposure {exposure} floor.content={VECTORS}")
            asked += [f"python -m tools.floor {words} {one}" for one in scored]
            asked.append(_judge(seed, exposure, bool(content)))
    return asked


def _described(content: str) -> list[str]:
    """What makes the vectors of the movies' titles, genres and overviews."""
    words = f"{DESCRIBED} data.source.content={content}"
    return [f"python -m tools.prepare {words}", f"python -m tools.content {words} --out {VECTORS}"]


def table(content: str | None) -> str:
    """AUC and GAUC of the new items' rows by kept rows, with intervals and the gradient steps behind each."""
    systems = _systems(bool(content))
    found = draws.combine([results.read(FOLDER / f"seed-{seed}.json") for seed in SEEDS])
    lines = []
    heads = [f"n={n}" for n in EXPOSURES]
    for metric, title in METRICS.items():
        lines += head(title, heads)
        for system in systems:
            cells = [_cell(found["systems"][system], n, metric, ".4f") for n in EXPOSURES]
            if system != "base":
                cells = [f"{cell}<br>{_steps(system, n)}" for cell, n in zip(cells, EXPOSURES, strict=True)]
            lines.append(f"| {SYSTEMS[system]} | " + " | ".join(cells) + " |")
        lines += ["", *head(f"{title}, less the base's (paired)", heads)]
        for system in systems[1:]:
            cells = [_cell(found["differences"][f"{system} - base"], n, metric, "+.4f") for n in EXPOSURES]
            lines.append(f"| {SYSTEMS[system]} | " + " | ".join(cells) + " |")
        lines.append("")
    counts = found["systems"]["base"]["n=0"]
    trained = [checkpoint.progress_of(checkpoint.best(Path(run_of(seed)) / "checkpoints")).step for seed in SEEDS]
    lines.append(
        f"{found['dataset']}, {found['split']}, seeds {', '.join(map(str, SEEDS))} (each draws other new items and "
        f"weights); {counts['rows']:,} rows and {counts['users']:,} users with both classes a draw, the same at every "
        f"n; two-way bootstrap 95 % intervals, {found['interval']}. Under a value what it took beyond the "
        "trained base, mean of the draws: L-BFGS steps, and passes over the kept rows. The base itself took "
        f"{sum(trained) / len(trained):.0f} steps, and *as it is* never sees a kept row."
    )
    return "\n".join(lines)


def _systems(content: bool) -> list[str]:
    return [system for system in SYSTEMS if content or system != "ridge-overviews"]


def drawn(seed: int) -> str:
    """The config of a draw; the first is of the dataset as its config has it."""
    if seed == 0:
        return f"{CONFIG} run={run_of(seed)}"
    return (
        f"{CONFIG} run={run_of(seed)} data.path=data/movielens-1m-seed{seed} data.split.seed={seed} train.seed={seed}"
    )


def run_of(seed: int) -> str:
    return f"runs/records/movielens-1m-seed{seed}"


def _judge(seed: int, exposure: int, content: bool) -> str:
    scores = [f"--scores base={run_of(seed)}/scores/test"]
    scores += [f"--scores {system}={run_of(seed)}/floor/{system}/n={exposure}" for system in _systems(content)[1:]]
    where = f"--exposure {exposure} --only n={exposure} --out {FOLDER}/seed-{seed}.json"
    return f"python -m tools.evaluate {drawn(seed)} {' '.join(scores)} {where}"


def _cell(by_segment: dict[str, Any], exposure: int, metric: str, form: str) -> str:
    entry = by_segment[f"n={exposure}"]
    if metric not in entry:
        return report.TOO_FEW
    value, low, high = (format(number, form) for number in entry[metric])
    return f"{value} [{low}, {high}]"


def _steps(system: str, exposure: int) -> str:
    told = [about.read(Path(run_of(seed)) / "floor" / system / f"n={exposure}") for seed in SEEDS]
    steps, passes = (sum(each) / len(told) for each in zip(*((o.gradient_steps, o.passes) for o in told), strict=True))
    note = "" if all(one.converged for one in told) else ", not converged"
    return f"{steps:.0f} steps, {passes:.0f} passes{note}"
