"""Record `simulated-movielens`: what simulated interactions add to a ranker on new items, beside what needs no judge.

The judge learns from the training rows of each draw under the label rule `liked`, and serves both rules and the ranker
with proxies as well; the filter is each label rule's own. Bases and proxies under `liked` are those of record
`idproxy-movielens`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys.evaluate import draws, results
from recsys.records.commands import RANKS, trained
from recsys.records.lines import head, row, simulations

SEEDS = (0, 1, 2)
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
_KEPT = ("base", "simulated", "idproxy", "idproxy/simulated")
LABELS = {
    "liked": {0: tuple(SYSTEMS), 2: _KEPT},
    "observed": {0: tuple(name for name in SYSTEMS if not name.startswith("idproxy"))},
}
"""Systems by label rule and exposure."""
VARIANTS = {
    "random": "simulator.funnel.users=random simulator.funnel.refine=false",
    "filtered": "simulator.funnel.refine=false",
    "simulated": "",
}
SIZE = "configs/simulator/record.yaml"


def commands(content: str) -> list[str]:
    """Of all draws. content: Parquet with the movies' overviews."""
    return [command for seed in SEEDS for command in draw(seed, content)]


def draw(seed: int, content: str) -> Iterator[str]:
    """Of one draw, under each label rule."""
    for label, by_exposure in LABELS.items():
        base = f"{CONFIG} {words_of(seed, label, 'base', content)}"
        if label == "liked":
            yield f"{RANKS} tools.simulate tune {_simulator(seed, label, 'base', content)}"
        else:
            yield f"python -m tools.prepare {base}"
            yield from trained(base)
        yield from _simulated(seed, label, content)
        for exposure, systems in by_exposure.items():
            yield from _learned(seed, label, exposure, systems, content)
            scores = " ".join(f"--scores {name}={scores_of(seed, label, name, exposure)}" for name in systems)
            only = f"--exposure {exposure} --only n={exposure}" + ("" if exposure else " --only warm")
            for rival in ("base", "idproxy") if "idproxy" in systems else ("base",):
                yield f"python -m tools.evaluate {base} {scores} --against {rival} {only} --out {_judged(seed, label)}"


def _simulated(seed: int, label: str, content: str) -> Iterator[str]:
    """The filter and the simulations."""
    words = _simulator(seed, label, "base", content)
    yield f"{RANKS} tools.simulate filter {words}"
    for name, switches in VARIANTS.items():
        yield f"{RANKS} tools.simulate users {words} simulator.name={name} {switches}".rstrip()
        yield f"python -m tools.simulate quality {words} simulator.name={name}"


def _learned(seed: int, label: str, exposure: int, systems: tuple[str, ...], content: str) -> Iterator[str]:
    """The cold rows, from simulations and the real rows of the exposure."""
    for system in systems:
        if (variant := _variant(system)) in VARIANTS:
            words = _simulator(seed, label, _ranker(system), content)
            words += f" simulator.name={_name(system, exposure)} simulator.update.publish=false"
            words += f" simulator.update.exposure={exposure}" if exposure else ""
            words += f" simulator.update.simulated={run_of(seed, label, 'base')}/simulator/{variant}/simulated.parquet"
            balance = str(not system.endswith("/level")).lower()
            yield f"{RANKS} tools.simulate update {words} simulator.update.balance={balance}"
        elif exposure and label != "liked":
            words = f"{CONFIG} {words_of(seed, label, _ranker(system), content)}"
            yield f"python -m tools.floor {words} --system finetune --exposure {exposure}"


def _variant(system: str) -> str:
    return system.removeprefix("idproxy/").removesuffix("/level")


def _ranker(system: str) -> str:
    return "v5" if system.startswith("idproxy") else "base"


def _name(system: str, exposure: int) -> str:
    name = f"{_variant(system)}-{'level' if system.endswith('/level') else 'taste'}"
    return f"{name}-{exposure}" if exposure else name


def scores_of(seed: int, label: str, system: str, exposure: int) -> Path:
    run = run_of(seed, label, _ranker(system))
    if _variant(system) in VARIANTS:
        return run / "simulator" / _name(system, exposure) / "scores.parquet"
    return run / (f"floor/finetune/n={exposure}" if exposure else "scores/test")


def _judged(seed: int, label: str) -> Path:
    return FOLDER / f"{label}-{seed}.json"


def run_of(seed: int, label: str, ranker: str) -> Path:
    return (PROXIES if label == "liked" else FOLDER / label) / f"seed-{seed}" / ranker


def _simulator(seed: int, label: str, ranker: str, content: str) -> str:
    words = f"{CONFIG} {SIZE} {words_of(seed, label, ranker, content)}"
    if label == "liked":
        return words
    return f"{words} simulator.judge.adapter={run_of(seed, 'liked', 'base')}/simulator/adapter"


def words_of(seed: int, label: str, ranker: str, content: str) -> str:
    """What is laid over the config, for a ranker of a draw."""
    data = f"data/{PROXIES.name}-{seed}" if label == "liked" else f"data/{FOLDER.name}-{label}-{seed}"
    words = f"run={run_of(seed, label, ranker)} data.path={data} data.source.content={content}"
    words += "" if label == "liked" else f" data.label.rule={label}"
    words += f" data.split.seed={seed} train.seed={seed} train.hide_ids=0.2"
    if ranker == "base":
        return words
    vectors = run_of(seed, label, "base") / "proxy/vectors"
    proxies = f"model.proxy.coarse={vectors}/coarse.parquet model.proxy.layers={vectors}/layers.parquet"
    return f"configs/idproxy/{ranker}.yaml {words} {proxies}"


def table() -> str:
    """AUC and GAUC under each label rule, differences with intervals, and how true the simulations are."""
    lines: list[str] = []
    for label, by_exposure in LABELS.items():
        found = draws.combine([results.read(_judged(seed, label)) for seed in SEEDS])
        lines += [*_lines(label, by_exposure, found), ""]
        runs = [run_of(seed, label, "base") / "simulator" for seed in SEEDS]
        lines += [*simulations({SYSTEMS[name]: [run / name for run in runs] for name in VARIANTS}), ""]
    counts = found["systems"]["base"]["n=0"]
    told = (
        f"{found['dataset']}, {found['split']}, seeds {', '.join(map(str, SEEDS))} (each draws other new items and "
        f"weights); {counts['rows']:,} rows of new items and {counts['users']:,} users with both classes a draw under "
        f"the last label rule; two-way bootstrap 95 % intervals, {found['interval']}. At n=2 every system has "
        "the new items' first two rows as well, learned with everything else frozen."
    )
    return "\n".join([*lines, told])


def _lines(label: str, by_exposure: dict[int, tuple[str, ...]], found: dict[str, Any]) -> list[str]:
    segments = ("warm", *(f"n={exposure}" for exposure in by_exposure))
    heads = [f"{segment} {metric}" for segment in segments for metric in ("AUC", "GAUC")]
    lines = head(f"label `{label}`", heads)
    systems = by_exposure[0]
    lines += [row(SYSTEMS[name], found["systems"][name], segments, ".4f") for name in systems]
    pairs = [(name, "base") for name in systems[1:]]
    if "idproxy" in systems:
        pairs.append(("idproxy/simulated", "idproxy"))
    for name, rival in pairs:
        change = found["differences"][f"{name} - {rival}"]
        lines.append(row(f"{SYSTEMS[name]} − {SYSTEMS[rival]}", change, segments, "+.4f"))
    return lines
