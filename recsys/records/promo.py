"""Record `promo-movielens`: vectors read off first feedback, beside the best of the floor on the same rows.

Bases, and the floor's scores, are those of record `floor-movielens`.
"""

from pathlib import Path

from recsys.evaluate import draws, results
from recsys.records import floor
from recsys.records.lines import row

SEEDS = floor.SEEDS
EXPOSURES = (2, 8, 20, 40, 60)
FOLDER = Path("runs/records/promo-movielens")
FLOOR = {
    "means": "user and item means",
    "finetune": "base, new rows fine-tuned",
    "ridge": "ridge from titles and genres, then fine-tuned",
}
SYSTEMS = {
    **FLOOR,
    "promo": "read off the first rows",
    "promo/finetuned": "read off the first rows, then fine-tuned",
}
_METRICS = {"auc": "AUC", "gauc": "GAUC (within users)"}


def commands() -> list[str]:
    """Of all draws."""
    asked = []
    for seed in SEEDS:
        words = floor.drawn(seed)
        for exposure in EXPOSURES:
            prompt = f"torchrun --nproc-per-node 2 -m tools.prompt {words} --exposure {exposure}"
            asked += [prompt, f"{prompt} prompt.summary.finetune=true"]
            scores = " ".join(f"--scores {name}={_scores(seed, name, exposure)}" for name in SYSTEMS)
            only = f"--exposure {exposure} --only n={exposure} --out {_judged(seed)}"
            for rival in ("finetune", "ridge"):
                asked.append(f"python -m tools.evaluate {words} {scores} --against {rival} {only}")
    return asked


def _judged(seed: int) -> Path:
    return FOLDER / f"seed-{seed}.json"


def _scores(seed: int, system: str, exposure: int) -> str:
    if system in FLOOR:
        return f"{floor.run_of(seed)}/floor/{system}/n={exposure}"
    name = "finetuned" if system.endswith("finetuned") else "summary"
    return f"{floor.run_of(seed)}/prompt/{name}/n={exposure}/scores.parquet"


def table() -> str:
    """AUC and GAUC of the new items' rows by kept rows, and paired differences to the floor."""
    found = draws.combine([results.read(_judged(seed)) for seed in SEEDS])
    unseen = draws.combine([results.read(_judged(seed)) for seed in SEEDS[1:]])
    segments = tuple(f"n={n}" for n in EXPOSURES)
    lines: list[str] = []
    for metric, title in _METRICS.items():
        lines += [f"| {title} | " + " | ".join(segments) + " |", "|---" * (len(segments) + 1) + "|"]
        lines += [row(told, found["systems"][name], segments, ".4f", (metric,)) for name, told in SYSTEMS.items()]
        for name in ("promo", "promo/finetuned"):
            for rival in ("finetune", "ridge"):
                change = found["differences"][f"{name} - {rival}"]
                lines.append(row(f"{SYSTEMS[name]} − {SYSTEMS[rival]}", change, segments, "+.4f", (metric,)))
        change = unseen["differences"]["promo - finetune"]
        title = f"{SYSTEMS['promo']} − {SYSTEMS['finetune']}, without draw 0"
        lines += [row(title, change, segments, "+.4f", (metric,)), ""]
    counts = found["systems"]["promo"]["n=2"]
    lines.append(
        f"{found['dataset']}, {found['split']}, seeds {', '.join(map(str, SEEDS))} (each draws other new items and "
        f"weights); {counts['rows']:,} rows and {counts['users']:,} users with both classes a draw, the same at every "
        "n; two-way bootstrap 95 % intervals, ends averaged over the draws. What a summary holds was settled on draw "
        "0, which the last line of each table leaves out."
    )
    return "\n".join(lines)
