"""Record `promo-network`: PROMO's own network beside the ranker, against its new rows fine-tuned.

The base, and the floor's scores, are those of record `floor-movielens`, first draw.
"""

from pathlib import Path

from recsys.evaluate import results
from recsys.records import floor
from recsys.records.commands import RANKS
from recsys.records.lines import METRICS, head, row

EXPOSURES = (2, 8, 20)
SEED = floor.SEEDS[0]
NETWORKS = {
    "paper": ("PROMO's network, trained on warm items as they are", "prompt.tuning.pose=0"),
    "posed": ("PROMO's network, half of the items posing as new", ""),
}
"""By name: what it is, and its overrides."""
BOTH = "posed/finetuned"
SYSTEMS = {
    "finetune": "base, new rows fine-tuned",
    **{name: told for name, (told, _) in NETWORKS.items()},
    BOTH: "the latter, beside the fine-tuned base",
}
_JUDGED = Path("runs/records/promo-network.json")


def commands() -> list[str]:
    """Networks, and their scores by kept rows."""
    words, run, asked = floor.drawn(SEED), floor.run_of(SEED), []
    for name, (_, over) in NETWORKS.items():
        network = f"{RANKS} tools.prompt {words} configs/promo/code.yaml prompt.name={name} {over}".rstrip()
        asked += [f"{network} --network --exposure {n}" for n in EXPOSURES]
    asked += [f"{network} prompt.tuning.finetune=true --network --exposure {n}" for n in EXPOSURES]
    for n in EXPOSURES:
        scores = [f"--scores finetune={run}/floor/finetune/n={n}"]
        scores += [f"--scores {name}={run}/prompt/host/{name}/n={n}/scores.parquet" for name in [*NETWORKS, BOTH]]
        only = f"--against finetune --exposure {n} --only n={n} --out {_JUDGED}"
        asked.append(f"python -m tools.evaluate {words} {' '.join(scores)} {only}")
    return asked


def table() -> str:
    """AUC and GAUC of the new items' rows by kept rows, and paired differences."""
    found, segments = results.read(_JUDGED), tuple(f"n={n}" for n in EXPOSURES)
    lines: list[str] = []
    for metric, title in METRICS.items():
        lines += head(title, segments)
        lines += [row(told, found["systems"][name], segments, ".4f", (metric,)) for name, told in SYSTEMS.items()]
        for name in [*NETWORKS, BOTH]:
            change = found["differences"][f"{name} - finetune"]
            lines.append(row(f"{SYSTEMS[name]} − {SYSTEMS['finetune']}", change, segments, "+.4f", (metric,)))
        lines.append("")
    counts = found["systems"]["finetune"][segments[0]]
    lines.append(
        f"{found['dataset']}, {found['split']}, seed {SEED}; {counts['rows']:,} rows and {counts['users']:,} users "
        "with both classes, the same at every n; two-way bootstrap 95 % intervals."
    )
    return "\n".join(lines)
