"""Record `simulated-movielens`: what simulated interactions add to a ranker on new items, beside what needs no judge.

Judge and filter learn from the training rows of each draw under the label rule `liked`. Who is simulated to take an
item serves both label rules and the ranker with proxies, which differ in what they make of it. Bases and proxies under
`liked` are those of record `idproxy-movielens`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys.evaluate import draws, results
from recsys.records.lines import row, simulations

SEEDS = (0,)
CONFIG = "configs/movielens-1m.yaml"
FOLDER = Path("runs/records/simulated-movielens")
PROXIES = Path("runs/records/idproxy-movielens")
SYSTEMS = {
    "base": "base",
    "random": "random users",
    "filtered": "filter alone",
    "simulated": "filter and judge",
    "simulated/level": "filter and judge, believed in how many say Yes",
    "idproxy": "proxies",
    "idproxy/simulated": "proxies, filter and judge",
}
_RANKER = tuple(name for name in SYSTEMS if not name.startswith("idproxy"))
LABELS = {"liked": {0: tuple(SYSTEMS)}, "observed": {0: _RANKER}}
"""Systems by label rule and exposure."""
VARIANTS = {
    "random": "simulator.funnel.users=random simulator.funnel.refine=false",
    "filtered": "simulator.funnel.refine=false",
    "simulated": "",
}
SIZE = "configs/simulator/record.yaml"
_RANKS = "torchrun --nproc-per-node 2 -m"


def commands(content: str) -> list[str]:
    """Of all draws. content: Parquet with the movies' overviews."""
    return [command for seed in SEEDS for command in (*_simulated(seed, content), *_learned(seed, content))]


def _simulated(seed: int, content: str) -> Iterator[str]:
    """The judge, what it knows, the filter, and the simulations."""
    words = f"{CONFIG} {SIZE} {_words(seed, 'liked', 'base', content)}"
    yield from (f"{_RANKS} tools.simulate {word} {words}" for word in ("tune", "filter"))
    for name, switches in VARIANTS.items():
        yield f"{_RANKS} tools.simulate users {words} simulator.name={name} {switches}".rstrip()
        yield f"python -m tools.simulate quality {words} simulator.name={name}"


def _learned(seed: int, content: str) -> Iterator[str]:
    """Rows, scores and judgements under each label rule, at each exposure."""
    for label, by_exposure in LABELS.items():
        base = f"{CONFIG} {_words(seed, label, 'base', content)}"
        if label != "liked":
            yield f"python -m tools.prepare {base}"
            yield from (f"{_RANKS} tools.{tool} {base}" for tool in ("train", "predict"))
        for exposure, systems in by_exposure.items():
            scores = []
            for system in systems:
                command, scored = _scored(seed, label, system, exposure, content)
                yield from command
                scores.append(f"--scores {system}={scored}")
            only = f"--exposure {exposure} --only n={exposure}" + ("" if exposure else " --only warm")
            out = f"--out {FOLDER}/{label}-{seed}.json"
            for rival in ("base", "idproxy") if "idproxy" in systems else ("base",):
                yield f"python -m tools.evaluate {base} {' '.join(scores)} --against {rival} {only} {out}"


def _scored(seed: int, label: str, system: str, exposure: int, content: str) -> tuple[list[str], Path]:
    """What is to be run for a system's scores, and where they are."""
    ranker = "v5" if system.startswith("idproxy") else "base"
    run, words = _run(seed, label, ranker), _words(seed, label, ranker, content)
    level = system.endswith("/level")
    variant = "simulated" if level else system.rpartition("/")[2]
    if variant in VARIANTS:
        source = run_of(seed) / "simulator" / variant / "simulated.parquet"
        name = f"{variant}-{label}-{exposure}" + ("-level" if level else "")
        words += f" simulator.name={name} simulator.update.simulated={source} simulator.update.publish=false"
        words += " simulator.update.balance=false" if level else ""
        command = f"{_RANKS} tools.simulate update {CONFIG} {SIZE} {words} simulator.update.exposure={exposure}"
        return [command], run / "simulator" / name / "scores.parquet"
    if not exposure:
        return [], run / "scores/test"
    finetuned = f"python -m tools.floor {CONFIG} {words} --system finetune --exposure {exposure}"
    return [] if label == "liked" else [finetuned], run / f"floor/finetune/n={exposure}"


def run_of(seed: int) -> Path:
    """The run whose judge and filter simulate."""
    return _run(seed, "liked", "base")


def _run(seed: int, label: str, ranker: str) -> Path:
    return (PROXIES if label == "liked" else FOLDER / label) / f"seed-{seed}" / ranker


def _words(seed: int, label: str, ranker: str, content: str) -> str:
    """What is laid over the config, for a ranker of a draw."""
    data = f"data/{PROXIES.name}-{seed}" if label == "liked" else f"data/{FOLDER.name}-{label}-{seed}"
    words = f"run={_run(seed, label, ranker)} data.path={data} data.source.content={content} data.label.rule={label}"
    words += f" data.split.seed={seed} train.seed={seed} train.hide_ids=0.2"
    if ranker == "base":
        return words
    vectors = _run(seed, label, "base") / "proxy/vectors"
    proxies = f"model.proxy.coarse={vectors}/coarse.parquet model.proxy.layers={vectors}/layers.parquet"
    return f"configs/idproxy/{ranker}.yaml {words} {proxies}"


def table() -> str:
    """AUC and GAUC under each label rule, differences with intervals, and how true the simulations are."""
    lines: list[str] = []
    for label, by_exposure in LABELS.items():
        found = draws.combine([results.read(FOLDER / f"{label}-{seed}.json") for seed in SEEDS])
        segments = ("warm", *(f"n={n}" for n in by_exposure))
        heads = [f"{segment} {metric}" for segment in segments for metric in ("AUC", "GAUC")]
        lines += [f"| label `{label}` | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        systems = by_exposure[0]
        lines += [row(SYSTEMS[name], found["systems"][name], segments, ".4f") for name in systems]
        pairs = [(name, "base") for name in systems[1:]]
        for name, rival in [*pairs, *([("idproxy/simulated", "idproxy")] if "idproxy" in systems else [])]:
            title = f"{SYSTEMS[name]} − {SYSTEMS[rival]}"
            lines.append(row(title, found["differences"][f"{name} - {rival}"], segments, "+.4f"))
        lines.append("")
    folders = {SYSTEMS[name]: [run_of(seed) / "simulator" / name for seed in SEEDS] for name in VARIANTS}
    return "\n".join([*lines, *simulations(folders), "", _told(found)])


def _told(found: dict[str, Any]) -> str:
    counts = found["systems"]["base"]["n=0"]
    return (
        f"{found['dataset']}, {found['split']}, seeds {', '.join(map(str, SEEDS))} (each draws other new items and "
        f"weights); {counts['rows']:,} rows of new items and {counts['users']:,} users with both classes a draw under "
        "the last label rule; two-way bootstrap 95 % intervals, ends averaged over the draws."
    )
