"""Records `promo-*`: vectors read off first feedback, beside the best of the floor on the same rows.

On MovieLens the bases, and the floor's scores, are those of record `floor-movielens`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recsys.evaluate import draws, results
from recsys.records import floor
from recsys.records.commands import RANKS, trained
from recsys.records.lines import METRICS, head, row

SEEDS = floor.SEEDS
FLOOR = {
    "means": "user and item means",
    "finetune": "base, new rows fine-tuned",
    "ridge": "ridge from content, then fine-tuned",
}
SYSTEMS = {
    **FLOOR,
    "promo": "read off the first rows",
    "promo/finetuned": "read off the first rows, then fine-tuned",
}


@dataclass(frozen=True)
class Case:
    """A dataset and a split of it."""

    name: str
    exposures: tuple[int, ...]
    drawn: Callable[[int], str]
    """Config and overrides of a draw."""
    run_of: Callable[[int], str]
    """Run folder of a draw."""
    told: str
    """What else the reader must know."""
    bases: bool = True
    """Whether bases and the floor's scores are made here, and not by another record."""
    seeds: tuple[int, ...] = SEEDS

    @property
    def folder(self) -> Path:
        return Path("runs/records") / self.name

    def commands(self) -> list[str]:
        """Of all draws."""
        return [command for seed in self.seeds for command in [*self._based(seed), *self._read(seed)]]

    def _based(self, seed: int) -> list[str]:
        if not self.bases:
            return []
        words = self.drawn(seed)
        asked = [f"python -m tools.prepare {words}"]
        asked += trained(words)
        scored = [(n, system) for n in self.exposures for system in FLOOR]
        return asked + [f"python -m tools.floor {words} --system {system} --exposure {n}" for n, system in scored]

    def _read(self, seed: int) -> list[str]:
        words, asked = self.drawn(seed), []
        for exposure in self.exposures:
            prompt = f"{RANKS} tools.prompt {words} --exposure {exposure}"
            asked += [prompt, f"{prompt} prompt.summary.finetune=true"]
            scores = " ".join(f"--scores {name}={self._scores(seed, name, exposure)}" for name in SYSTEMS)
            only = f"--exposure {exposure} --only n={exposure} --out {self._judged(seed)}"
            for rival in ("finetune", "ridge"):
                asked.append(f"python -m tools.evaluate {words} {scores} --against {rival} {only}")
        return asked

    def _judged(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.json"

    def _scores(self, seed: int, system: str, exposure: int) -> str:
        if system in FLOOR:
            return f"{self.run_of(seed)}/floor/{system}/n={exposure}"
        name = "finetuned" if system.endswith("finetuned") else "summary"
        return f"{self.run_of(seed)}/prompt/{name}/n={exposure}/scores.parquet"

    def table(self) -> str:
        """AUC and GAUC of the new items' rows by kept rows, and paired differences to the floor."""
        found = draws.combine([results.read(self._judged(seed)) for seed in self.seeds])
        segments = tuple(f"n={n}" for n in self.exposures)
        lines: list[str] = []
        for metric, title in METRICS.items():
            lines += head(title, segments)
            lines += [row(told, found["systems"][name], segments, ".4f", (metric,)) for name, told in SYSTEMS.items()]
            for name in ("promo", "promo/finetuned"):
                for rival in ("finetune", "ridge"):
                    change = found["differences"][f"{name} - {rival}"]
                    lines.append(row(f"{SYSTEMS[name]} − {SYSTEMS[rival]}", change, segments, "+.4f", (metric,)))
            if not self.bases:
                unseen = draws.combine([results.read(self._judged(seed)) for seed in self.seeds[1:]])
                change = unseen["differences"]["promo - finetune"]
                title = f"{SYSTEMS['promo']} − {SYSTEMS['finetune']}, without draw 0"
                lines.append(row(title, change, segments, "+.4f", (metric,)))
            lines.append("")
        counts, seeds = found["systems"]["promo"][segments[0]], ", ".join(map(str, self.seeds))
        lines.append(
            f"{found['dataset']}, {found['split']}, seed {seeds}; {counts['rows']:,} rows and "
            f"{counts['users']:,} users with both classes a draw, the same at every n; two-way bootstrap 95 % "
            f"intervals, {found['interval']}. {self.told}"
        )
        return "\n".join(lines)


def movielens() -> Case:
    """The split of record."""
    told = (
        "Each draw has other new items and weights. What a summary holds was settled on draw 0, which the last line of "
        "each table leaves out."
    )
    return Case("promo-movielens", (2, 8, 20, 40, 60), floor.drawn, floor.run_of, told, bases=False)


def kuairand(path: str | None) -> Case:
    """Real impressions, with arrival simulated."""
    told = "Each draw has other new items and weights; all videos are older than the log, their arrival is simulated."
    words = f"data.source.path={path}"
    return _drawn_here("promo-kuairand", (2, 8, 20), "configs/kuairand-pure.yaml", words, "kuairand-pure", told)


def warm_up() -> Case:
    """The published split, which trains on users' future."""
    told = "Seeds would change weights and validation rows alone, and not who is new."
    words, name = "data.split.rule=warm-up", "movielens-1m-warm-up"
    return _drawn_here("promo-warm-up", (0, 20, 40, 60), "configs/movielens-1m.yaml", words, name, told, (0,))


def _drawn_here(
    record: str,
    exposures: tuple[int, ...],
    config: str,
    words: str,
    name: str,
    told: str,
    seeds: tuple[int, ...] = SEEDS,
) -> Case:
    """Bases of its own; `name`: of the draws' datasets and runs."""

    def drawn(seed: int) -> str:
        given = f"{config} run={run_of(seed)} {words} data.path=data/{name}-seed{seed}"
        return f"{given} data.split.seed={seed} train.seed={seed}"

    def run_of(seed: int) -> str:
        return f"runs/records/{name}-seed{seed}"

    return Case(record, exposures, drawn, run_of, told, seeds=seeds)
