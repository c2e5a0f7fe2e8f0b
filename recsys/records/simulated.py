"""Record `simulated-movielens`: what simulated interactions add to a ranker on new items, beside what needs no judge.

Judge and filter learn from the training rows of each draw. Who is simulated to take an item serves the ranker with
proxies as well. Bases and proxies are those of record `idproxy-movielens`.
"""

from collections.abc import Iterator
from pathlib import Path

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
    """The judge, the filter, and the simulations."""
    words = f"{CONFIG} {SIZE} {_words(seed, 'base', content)}"
    yield from (f"{_RANKS} tools.simulate {word} {words}" for word in ("tune", "filter"))
    for name, switches in VARIANTS.items():
        yield f"{_RANKS} tools.simulate users {words} simulator.name={name} {switches}".rstrip()
        yield f"python -m tools.simulate quality {words} simulator.name={name}"


def _learned(seed: int, content: str) -> Iterator[str]:
    """Rows, scores and judgements."""
    scores = []
    for system in SYSTEMS:
        ranker = "v5" if system.startswith("idproxy") else "base"
        variant = system.removeprefix("idproxy/").removesuffix("/level")
        if variant not in VARIANTS:
            scores.append(f"--scores {system}={_run(seed, ranker)}/scores/test")
            continue
        level = system.endswith("/level")
        name = f"{variant}-{'level' if level else 'taste'}"
        words = f"{CONFIG} {SIZE} {_words(seed, ranker, content)} simulator.name={name} simulator.update.publish=false"
        words += f" simulator.update.simulated={_run(seed, 'base')}/simulator/{variant}/simulated.parquet"
        yield f"{_RANKS} tools.simulate update {words} simulator.update.balance={str(not level).lower()}"
        scores.append(f"--scores {system}={_run(seed, ranker)}/simulator/{name}/scores.parquet")
    words = f"{CONFIG} {_words(seed, 'base', content)} {' '.join(scores)}"
    for rival in ("base", "idproxy"):
        yield f"python -m tools.evaluate {words} --against {rival} --only warm --only n=0 --out {_judged(seed)}"


def _judged(seed: int) -> Path:
    return FOLDER / f"seed-{seed}.json"


def _run(seed: int, ranker: str) -> Path:
    return PROXIES / f"seed-{seed}" / ranker


def _words(seed: int, ranker: str, content: str) -> str:
    """What is laid over the config, for a ranker of a draw."""
    words = f"run={_run(seed, ranker)} data.path=data/{PROXIES.name}-{seed} data.source.content={content}"
    words += f" data.split.seed={seed} train.seed={seed} train.hide_ids=0.2"
    if ranker == "base":
        return words
    vectors = _run(seed, "base") / "proxy/vectors"
    proxies = f"model.proxy.coarse={vectors}/coarse.parquet model.proxy.layers={vectors}/layers.parquet"
    return f"configs/idproxy/{ranker}.yaml {words} {proxies}"


def table() -> str:
    """AUC and GAUC, differences with intervals, and how true the simulations are."""
    found = draws.combine([results.read(_judged(seed)) for seed in SEEDS])
    segments = ("warm", "n=0")
    heads = [f"{segment} {metric}" for segment in segments for metric in ("AUC", "GAUC")]
    lines = ["| system | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [row(title, found["systems"][name], segments, ".4f") for name, title in SYSTEMS.items()]
    for name, rival in [*((name, "base") for name in list(SYSTEMS)[1:]), ("idproxy/simulated", "idproxy")]:
        title = f"{SYSTEMS[name]} − {SYSTEMS[rival]}"
        lines.append(row(title, found["differences"][f"{name} - {rival}"], segments, "+.4f"))
    folders = {SYSTEMS[name]: [_run(seed, "base") / "simulator" / name for seed in SEEDS] for name in VARIANTS}
    counts = found["systems"]["base"]["n=0"]
    told = (
        f"{found['dataset']}, {found['split']}, seed {', '.join(map(str, SEEDS))}; {counts['rows']:,} rows of new "
        f"items and {counts['users']:,} users with both classes; two-way bootstrap 95 % intervals."
    )
    return "\n".join([*lines, "", *simulations(folders), "", told])
