"""Records `road-*`: every system alone and all together, beside the floor, by exposure and along a replay.

Rankers and proxies are those of records `idproxy-*`. Simulated users, on the same draws and rankers, have a record of
their own, `simulated-movielens`.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.evaluate import draws, results, warmup
from recsys.records import idproxy
from recsys.records.commands import RANKS
from recsys.records.lines import METRICS, head, row

SEEN = ("seen", "seen=0", "seen=1", "seen=2", "seen=4", "seen=8", "seen=16", "seen=32", "seen=64")
FLOOR = {
    "means": "user and item means",
    "base": "base, new rows fine-tuned",
    "ridge": "ridge from content, then fine-tuned",
}
ALONE = {
    "idproxy": "proxies, new rows fine-tuned",
    "promo": "read off the first rows, then fine-tuned",
}
SYSTEMS = {**FLOOR, **ALONE, "road": "all together: proxies, and rows read off and fine-tuned"}
REPLAYED = ("base", "idproxy", "promo", "road")
_PROXIED = ("idproxy", "road")
_TUNED = shlex.quote("lifecycle.stages=[{rows: 0, source: start}, {rows: 1, source: tuned}]")


@dataclass(frozen=True)
class Case:
    """A dataset, by its record of proxies; `told`: what else the reader must know.

    Rankers of draws that the other record does not have are trained here.
    """

    name: str
    proxies: idproxy.Case
    exposures: tuple[int, ...]
    """Kept rows of new items."""
    told: str

    def commands(self) -> list[str]:
        """Of all draws."""
        return [command for seed in idproxy.SEEDS for command in self.of_draw(seed)]

    def of_draw(self, seed: int) -> Iterator[str]:
        """Of one of them."""
        if seed not in self.proxies.seeds:
            yield from self.proxies.rankers(seed)
        yield from self._exposed(seed)
        yield from self._replay(seed)

    def _exposed(self, seed: int) -> Iterator[str]:
        base, proxied = (self.proxies.words(seed, ranker) for ranker in ("base", "v5"))
        for exposure in self.exposures:
            yield f"python -m tools.floor {base} --system means --exposure {exposure}"
            yield f"python -m tools.floor {base} --system ridge --exposure {exposure}"
            if exposure:
                yield from (
                    f"python -m tools.floor {one} --system finetune --exposure {exposure}" for one in (base, proxied)
                )
                yield f"{RANKS} tools.lifecycle {base} lifecycle.name=promo --exposure {exposure}"
                yield f"{RANKS} tools.lifecycle {proxied} --exposure {exposure}"
            scores = " ".join(f"--scores {name}={self._scores(seed, name, exposure)}" for name in _at(exposure))
            segments = f"--only n={exposure}" + ("" if exposure else " --only warm --only 100+")
            for rival in ("base", "ridge"):
                asked = f"--against {rival} --exposure {exposure} {segments} --out {self._judged(seed)}"
                yield f"python -m tools.evaluate {base} {scores} {asked}"

    def _replay(self, seed: int) -> Iterator[str]:
        for name in REPLAYED:
            words = self.proxies.words(seed, "v5" if name in _PROXIED else "base")
            stages = f" {_TUNED}" if name in ("base", "idproxy") else ""
            yield f"{RANKS} tools.lifecycle {words} lifecycle.name={name}{stages} --replay"
        walked = {name: self._run(seed, name) / f"lifecycle/{name}/replay/scores.parquet" for name in REPLAYED}
        scores = " ".join(f"--scores {name}={path}" for name, path in walked.items())
        # An item has one first row: few rows are all that there are.
        words = f"{self.proxies.words(seed, 'base')} evaluate.min_rows=300 evaluate.min_users=30"
        yield f"python -m tools.evaluate {words} {scores} --by impressions --out {self._judged(seed)}"

    def _run(self, seed: int, system: str) -> Path:
        return self.proxies.run_of(seed, "v5" if system in _PROXIED else "base")

    def _scores(self, seed: int, system: str, exposure: int) -> Path:
        run = self._run(seed, system)
        if system in ("means", "ridge"):
            return run / f"floor/{system}/n={exposure}"
        if not exposure:
            return run / "scores/test"
        if system in ("base", "idproxy"):
            return run / f"floor/finetune/n={exposure}"
        return run / f"lifecycle/{system}/n={exposure}/scores.parquet"

    def _judged(self, seed: int) -> Path:
        return Path("runs/records") / self.name / f"seed-{seed}.json"

    def table(self) -> str:
        """AUC and GAUC by exposure, differences to the floor, the feedback that is saved, and the replay."""
        found = self._found()
        lines: list[str] = []
        segments = tuple(f"n={n}" for n in self.exposures)
        for metric, title in METRICS.items():
            lines += head(title, segments)
            lines += [row(told, found["systems"][name], segments, ".4f", (metric,)) for name, told in SYSTEMS.items()]
            for name in (*ALONE, "road"):
                for rival in ("base", "ridge"):
                    change = found["differences"][f"{name} - {rival}"]
                    lines.append(row(f"{name} − {rival}", change, segments, "+.4f", (metric,)))
            lines.append("")
        lines += head("warm items", ("AUC", "GAUC"))
        for segment in ("warm", "100+"):
            change = found["differences"]["road - base"]
            lines.append(row(f"road − base, {segment}", {segment: change[segment]}, (segment,), "+.4f"))
        lines += ["", *self._saved(found), "", *_curve(found), ""]
        lines.append(f"{self._stated(found)} {self.told}")
        return "\n".join(lines)

    def headline(self) -> str:
        """The fine-tuned base and all together, and the paired difference: what a reader must see first."""
        found, segments = self._found(), ("n=0", "n=2", "n=8", "n=20", "100+")
        heads = (*segments[:-1], "items with 100+ rows")
        lines = head("", heads)
        for metric, title in METRICS.items():
            lines += [
                row(f"{title}: {SYSTEMS[name]}", found["systems"][name], segments, ".4f", (metric,))
                for name in ("base", "road")
            ]
            change = found["differences"]["road - base"]
            lines.append(row("difference", change, segments, "+.4f", (metric,)))
        return "\n".join([*lines, "", self._stated(found)])

    def _found(self) -> draws.Results:
        return draws.combine([results.read(self._judged(seed)) for seed in idproxy.SEEDS])

    def _stated(self, found: draws.Results) -> str:
        counts, seeds = found["systems"]["road"]["n=0"], ", ".join(map(str, idproxy.SEEDS))
        return (
            f"{found['dataset']}, {found['split']}, seed {seeds}; {counts['rows']:,} rows and {counts['users']:,} "
            f"users with both classes a draw; two-way bootstrap 95 % intervals, {found['interval']}."
        )

    def _saved(self, found: draws.Results) -> Iterator[str]:
        """On the same rows at every exposure; along a replay, items with more impressions are other items."""
        heads = [f"n={n}" for n in self.exposures]
        yield from head("rows of feedback that the fine-tuned base needs for the same AUC", heads)
        base = np.array([found["systems"]["base"][head]["auc"][0] for head in heads])
        for name in (*ALONE, "road"):
            reached = (found["systems"][name].get(head, {}).get("auc") for head in heads)
            cells = [one and warmup.told(warmup.impressions(np.array(self.exposures), base, one[0])) for one in reached]
            yield f"| {SYSTEMS[name]} | " + " | ".join(cell or "" for cell in cells) + " |"


def _at(exposure: int) -> list[str]:
    """Without feedback there is nothing to read."""
    return [name for name in SYSTEMS if exposure or name != "promo"]


def _curve(found: draws.Results) -> list[str]:
    heads = ["all", *(name.removeprefix("seen=") for name in SEEN[1:])]
    lines = head("replay, AUC by impressions seen", heads)
    lines += [row(SYSTEMS[name], found["systems"][name], SEEN, ".4f", ("auc",)) for name in REPLAYED]
    changes = found["differences"]
    return lines + [row(f"{name} − base", changes[f"{name} - base"], SEEN, "+.4f", ("auc",)) for name in REPLAYED[1:]]


def movielens(content: str | None) -> Case:
    """The split of record."""
    told = (
        "Each draw has other new items and weights. The replay walks the new items' test rows in time order; the base "
        "was trained on each user's first half, whichever second that ended in."
    )
    return Case("road-movielens", idproxy.movielens(content), (0, 2, 8, 20, 40, 60), told)


def kuairand(path: str | None) -> Case:
    """Real impressions. Content is codes in words, which tell no ranker more than the codes did."""
    told = (
        "All videos are older than the log: their arrival is simulated, and the replay walks the new ones' test rows "
        "in time order."
    )
    return Case("road-kuairand", idproxy.kuairand(path), (0, 2, 8, 20), told)
