"""Records `gauge-movielens` and `coldllm-movielens`: what the judge knows of cold items, and the papers' ranking table.

The filter learns from the vectors of MF; who is simulated to take an item serves both backbones.
"""

from collections.abc import Iterator
from pathlib import Path

from recsys.evaluate import draws, results
from recsys.records.commands import RANKS
from recsys.records.floor import DESCRIBED
from recsys.records.lines import head, row, simulations

SEEDS = (0, 1, 2)
_GAUGED = SEEDS[-1]
CONFIG = "configs/movielens-1m-cold-items.yaml"
SIZE = "configs/simulator/cold-items.yaml"
FOLDER = Path("runs/records/coldllm-movielens")
CONTENT = FOLDER / "content.parquet"
"""Vectors of titles, genres and overviews, with genres and years beside them."""
KINDS = {"uniform": "against any item", "popular": "against popular items"}
SCORERS = {
    "zero-shot": "zero-shot",
    "tuned": "tuned",
    "swapped": "tuned, histories swapped",
    "minilm": "MiniLM cosine to the history",
    "tuned+minilm": "tuned + MiniLM (z-scores)",
}
BACKBONES = {"mf": "MF", "lightgcn": "LightGCN"}
VARIANTS = {
    "language": ("filter without behaviour tower", "simulator.filter.behaviour=false simulator.funnel.refine=false"),
    "behaviour": ("filter without LLM tower", "simulator.filter.language=false simulator.funnel.refine=false"),
    "filtered": ("filter, without refining", "simulator.funnel.refine=false"),
    "simulated": ("filter and judge", ""),
    "random": ("random users", "simulator.funnel.users=random simulator.funnel.refine=false"),
}
"""What each is called, and its switches; the two without a tower have filters, and so runs, of their own."""
TITLES = {
    "backbone": "backbone",
    "ridge": "ridge from content to ID vectors",
    **{name: f"ridge, then {title}" for name, (title, _) in VARIANTS.items()},
    "alone": "filter and judge, without ridge",
}
PAPER = {
    "mf": (0.0976, 0.1473, 0.1225, 0.1182, 0.2129, 0.1924),
    "lightgcn": (0.1506, 0.2468, 0.1759, 0.1762, 0.3314, 0.3186),
}
"""The LLM-InS paper's own rows (LLaMA-7B): Recall@20 and NDCG@20 overall, cold and warm."""
_SEGMENTS = ("all", "cold", "warm")
_METRICS = ("recall@20", "ndcg@20")


def commands(content: str) -> list[str]:
    """Of all draws. content: Parquet with the movies' overviews."""
    words = f"{DESCRIBED} data.source.content={content}"
    asked = [f"python -m tools.prepare {words}", f"python -m tools.content {words} --features --out {CONTENT}"]
    return asked + [command for seed in SEEDS for command in _draw(seed)]


def gauge_commands() -> list[str]:
    """Of one draw's judge."""
    return [f"{RANKS} tools.simulate {word} {_words(_GAUGED)}" for word in ("tune", "gauge")]


def _draw(seed: int) -> Iterator[str]:
    words = _words(seed)
    yield f"python -m tools.prepare {words}"
    yield f"{RANKS} tools.simulate tune {words}"
    for kind in BACKBONES:
        yield f"python -m tools.backbone {words} {_kind(kind)} --ridge"
    for name, (_, switches) in VARIANTS.items():
        asked = f"{_words(seed, name)} {switches} simulator.name={name}".replace("  ", " ")
        if name not in ("random", "simulated"):
            yield f"{RANKS} tools.simulate filter {asked}"
        yield f"{RANKS} tools.simulate users {asked}"
        yield f"python -m tools.simulate quality {asked}"
    for kind in BACKBONES:
        for name in [*VARIANTS, "alone"]:
            start, variant = ("mean", "simulated") if name == "alone" else ("ridge", name)
            learned = f"simulator.name={name} simulator.backbone.start={start}"
            source = _folder(seed, variant) / "simulated.parquet"
            yield f"python -m tools.backbone {words} {_kind(kind)} {learned} --simulated {source}"
        systems = " ".join(f"--vectors {name}={_vectors(seed, kind, name)}" for name in TITLES)
        out = f"--against backbone --out {FOLDER}/{kind}-{seed}.json"
        yield f"python -m tools.evaluate {words} {systems} {out}"
        yield f"python -m tools.evaluate {words} {systems} {out.replace('backbone', 'ridge')}"


def _run(seed: int, name: str = "") -> Path:
    """A filter without one of its towers lies in a run of its own."""
    return FOLDER / f"seed-{seed}" / (name if name in ("language", "behaviour") else "backbones")


def _words(seed: int, name: str = "") -> str:
    words = f"{CONFIG} {SIZE} run={_run(seed, name)} floor.content={CONTENT}"
    if seed:
        words += f" data.path=data/movielens-1m-cold-items-seed{seed} data.split.seed={seed}"
    if _run(seed, name) != _run(seed):
        words += f" simulator.judge.adapter={_run(seed)}/simulator/adapter"
    journal = FOLDER / f"judged-{seed}"
    return f"{words} simulator.filter.host={_run(seed)}/backbone/mf/vectors simulator.funnel.journal={journal}"


def _kind(kind: str) -> str:
    return f"configs/backbone/{kind}.yaml"


def _folder(seed: int, name: str) -> Path:
    return _run(seed, name) / "simulator" / name


def _vectors(seed: int, kind: str, name: str) -> Path:
    own = {"backbone": "vectors", "ridge": "ridge"}
    return _run(seed) / "backbone" / kind / own.get(name, f"{name}/frozen")


def gauge_table() -> str:
    """AUC of the judge and of what it must beat, on pairs against either kind of item that was not taken."""
    found = results.read(_run(_GAUGED) / "simulator" / "gauge.json")
    heads = [f"{segment} {metric}" for segment in KINDS.values() for metric in ("AUC", "GAUC")]
    lines = head("scorer", heads)
    lines += [row(told, found["systems"][name], tuple(KINDS), ".4f") for name, told in SCORERS.items()]
    lines.append(row("tuned − swapped", found["differences"]["tuned - swapped"], tuple(KINDS), "+.4f"))
    counts = [found["systems"]["tuned"][kind] for kind in KINDS]
    pairs = " and ".join(f"{one['rows']:,}" for one in counts)
    told = (
        f"{found['dataset']}, {found['split']}, seed {_GAUGED}; {pairs} pairs of {counts[0]['users']:,} users, "
        "half of them taken; two-way bootstrap 95 % intervals."
    )
    return "\n".join([*lines, "", told])


def table() -> str:
    """Recall and NDCG of all, cold and warm items, beside the paper's, and differences to backbone and ridge."""
    lines: list[str] = []
    for kind, title in BACKBONES.items():
        found = draws.combine([results.read(FOLDER / f"{kind}-{seed}.json") for seed in SEEDS])
        heads = [f"{segment} {metric}" for segment in _SEGMENTS for metric in ("Recall@20", "NDCG@20")]
        lines += head(title, heads)
        lines += [row(told, found["systems"][name], _SEGMENTS, ".4f", _METRICS) for name, told in TITLES.items()]
        lines.append("| LLM-InS, LLaMA-7B, as published | " + " | ".join(f"{one:.4f}" for one in PAPER[kind]) + " |")
        pairs = [(name, "ridge") for name in VARIANTS] + [("ridge", "backbone"), ("simulated", "backbone")]
        for name, rival in pairs:
            change = found["differences"][f"{name} - {rival}"]
            lines.append(row(f"{TITLES[name]} − {TITLES[rival]}", change, _SEGMENTS, "+.4f", _METRICS))
        lines.append("")
    folders = {title: [_folder(seed, name) for seed in SEEDS] for name, (title, _) in VARIANTS.items()}
    counts = found["systems"]["backbone"]["cold"]
    told = (
        f"{found['dataset']}, {found['split']}, seed {', '.join(map(str, SEEDS))}; "
        f"{counts['ranked_users']:,} users with a cold item to find; two-way bootstrap 95 % intervals, "
        f"{found['interval']}."
    )
    return "\n".join([*lines, *simulations(folders), "", told])
