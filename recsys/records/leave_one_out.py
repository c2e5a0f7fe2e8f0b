"""Records `promo-100k` and `promo-1m`: PROMO's tables 2 to 4 and figure 5, in its protocol but without what its rows
had leaked.

Each seed breaks ties of a user's last second, and draws weights and negatives, anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from recsys.evaluate import draws, results
from recsys.prompt import retention
from recsys.records.lines import head, row

BASES = {"dssm": "DSSM", "sasrec": "SASRec"}
VARIANTS = {
    "ids": "PROMO-I: reads the item's ID vector",
    "features": "PROMO-F: reads its features",
    "both": "PROMO-IF: reads both",
    "shared": "PROMO-M: one network for all items",
    "none": "PROMO-T: no network",
    "rows": "PROMO, weights as rows of a table",
}
"""Beside SASRec, of the paper's tables 3 and 4; files in configs/promo."""
_RETAINED = {"base": "SASRec as it is", "finetuned": "SASRec, learning on", "promo": "PROMO, learning on"}
_SEGMENTS = {"all": "all", "rare": "rare items"}
_METRICS = tuple(f"{metric}@{k}/100" for k in (5, 10) for metric in ("hitrate", "ndcg"))
_HEADS = ("H@5", "N@5", "H@10", "N@10")


@dataclass(frozen=True)
class Case:
    """A size of MovieLens."""

    name: str
    dataset: str
    """Its config's name."""
    seeds: tuple[int, ...]
    variants: tuple[str, ...]
    given: Mapping[str, tuple[str, ...]]
    """Overrides of a base's config."""
    published: Mapping[str, tuple[float, ...]]
    """The paper's own rows: H@5, N@5, H@10, N@10 in percent."""

    def commands(self) -> list[str]:
        """Of all seeds."""
        return [command for seed in self.seeds for command in self._seed(seed)]

    def _seed(self, seed: int) -> Iterator[str]:
        words = self._words(seed)
        yield f"python -m tools.prepare {words}"
        yield f"python -m tools.popularity {words}"
        for kind in BASES:
            base = " ".join([words, f"configs/backbone/{kind}.yaml backbone.seed={seed}", *self.given.get(kind, ())])
            yield f"python -m tools.backbone {base}"
            yield f"python -m tools.prompt {base} --finetune"
            for name in ("code", *self.variants) if kind == "sasrec" else ("code",):
                yield f"python -m tools.prompt {base} configs/promo/{name}.yaml --network"
            if kind == "sasrec":
                yield f"python -m tools.prompt {base} configs/promo/code.yaml --retention"
        systems = " ".join(f"--vectors {name}={folder}" for name, folder in self._systems(seed).items())
        for rival in ("dssm", "dssm-finetuned", "sasrec", "sasrec-finetuned", "sasrec-code"):
            asked = f"evaluate.draws=5 {systems} --against {rival} --out {self._judged(seed)}"
            yield f"python -m tools.evaluate {words} {asked}"

    def _words(self, seed: int) -> str:
        given = f"configs/{self.dataset}.yaml run={self._run(seed)} data.path=data/{self.dataset}-seed{seed}"
        return f"{given} data.split.seed={seed} prompt.tuning.seed={seed}"

    def _run(self, seed: int) -> Path:
        return Path("runs/records") / self.name / f"seed-{seed}"

    def _judged(self, seed: int) -> Path:
        return self._run(seed).with_suffix(".json")

    def _systems(self, seed: int) -> dict[str, Path]:
        run, found = self._run(seed), {"popularity": self._run(seed) / "popularity"}
        for kind in BASES:
            found[kind] = run / "backbone" / kind / "vectors"
            found[f"{kind}-finetuned"] = run / "prompt" / kind / "finetuned" / "vectors"
            found[f"{kind}-code"] = run / "prompt" / kind / "code" / "scores"
        return found | {f"sasrec-{name}": run / "prompt" / "sasrec" / name / "scores" for name in self.variants}

    def table(self) -> str:
        """HitRate and NDCG of all positives and of those of rare items, the paper's beside them, and differences."""
        found = draws.combine([results.read(self._judged(seed)) for seed in self.seeds])
        titles = {"popularity": "popularity"}
        for kind, base in BASES.items():
            titles |= {kind: base, f"{kind}-finetuned": f"{base}, trained on", f"{kind}-code": f"{base} and PROMO"}
        titles |= {f"sasrec-{name}": f"SASRec and {VARIANTS[name]}" for name in self.variants}
        heads = [f"{segment} {head}" for segment in _SEGMENTS.values() for head in _HEADS]
        lines = head("system", heads)
        lines += [_percent(told, found["systems"][name]) for name, told in titles.items()]
        for told, published in self.published.items():
            lines.append(f"| {told}, as published | " + " | ".join(map(str, published)) + " |" * 5)
        for kind in BASES:
            for rival in (kind, f"{kind}-finetuned"):
                change = found["differences"][f"{kind}-code - {rival}"]
                lines.append(_percent(f"{titles[f'{kind}-code']} − {titles[rival]}", change, "+.1f"))
        for name in self.variants:
            change = found["differences"][f"sasrec-{name} - sasrec-code"]
            lines.append(_percent(f"{VARIANTS[name].split(':')[0]} − PROMO (SASRec)", change, "+.1f"))
        counts = found["systems"]["sasrec"]
        told = (
            f"{found['dataset']}, {found['split']}, seed {', '.join(map(str, self.seeds))}; percent; "
            f"{counts['all']['positives']:,} positives a seed, {counts['rare']['positives']:,} of rare items; each "
            f"among 100 sampled negatives, means of five draws of them; two-way bootstrap 95 % intervals, "
            f"{found['interval']}."
        )
        told += "".join(f" {BASES[kind]} with {', '.join(words)}." for kind, words in self.given.items())
        return "\n".join([*lines, "", *self._retained(), "", told])

    def _retained(self) -> Iterator[str]:
        """Beside SASRec: of the pinnacle pairs that a system ranked right, the share that it still does."""
        paths = [self._run(seed) / "prompt/sasrec/code" / retention.FILE for seed in self.seeds]
        found = pd.concat([pq.read_table(path).to_pandas() for path in paths])
        steps = sorted(found["step"].unique())
        yield from head("kept after so many negatives of an item, percent", map(str, steps))
        for system, told in _RETAINED.items():
            counts = found[found["system"] == system].groupby("step")[["kept", "right"]].sum()
            cells = (f"{100 * kept / right:.1f} of {right:,}" for kept, right in counts.itertuples(index=False))
            yield f"| {told} | " + " | ".join(cells) + " |"


def _percent(title: str, segments: dict[str, Any], form: str = ".1f") -> str:
    scaled = {
        segment: {metric: [100 * number for number in entry[metric]] for metric in _METRICS if metric in entry}
        for segment, entry in segments.items()
    }
    return row(title, scaled, tuple(_SEGMENTS), form, _METRICS)


def small() -> Case:
    """MovieLens-100K."""
    published = {
        "DSSM": (16.4, 10.7, 29.1, 15.1),
        "SASRec": (17.4, 10.8, 30.2, 14.9),
        "PROMO": (33.7, 25.5, 43.3, 28.6),
    }
    return Case("promo-100k", "movielens-100k-leave-one-out", tuple(range(5)), tuple(VARIANTS), {}, published)


def large() -> Case:
    """MovieLens-1M, whose bases take hours on a few cores: one seed, and a SASRec of width 64."""
    published = {
        "DSSM": (28.8, 18.8, 34.7, 23.6),
        "SASRec": (56.9, 43.4, 69.2, 47.6),
        "PROMO": (57.5, 43.8, 70.6, 48.0),
    }
    given = {"dssm": ("backbone.epochs=50",), "sasrec": ("backbone.width=64", "backbone.patience=5")}
    return Case("promo-1m", "movielens-1m-leave-one-out", (0,), (), given, published)
