"""Records `idproxy-movielens` and `idproxy-kuairand`: IDProxy's Table 1 beside a fair base and ridge in the same slot.

Every system is trained from nothing for as long as the base, with the same share of hidden IDs, on the same rows, and
reads vectors made from the same texts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys.evaluate import draws, results
from recsys.records.commands import trained
from recsys.records.lines import head, row

SEEDS = (0, 1, 2)
SYSTEMS = {
    "base": "base: structured features alone",
    "v1": "v1: text vectors as a feature",
    "v2": "v2: MLP from text to ID, as a feature",
    "ridge": "ridge from text to ID, in the slot",
    "v3": "v3: coarse proxy as a feature",
    "v4": "v4: coarse and fine proxies as features",
    "v5": "v5: both in the ID slot (IDProxy)",
}
_COMPARED = {"base": "base", "ridge": "ridge", "v1": "text as a feature", "v4": "v4"}
"""What differences are to."""
_TUNED = ("base", "ridge", "v5")
_HEADS = ("warm AUC", "warm GAUC", "n=0 AUC", "n=0 GAUC")
_HIDDEN = "0.2"
"""Share of hidden IDs (`train.hide_ids`), of all systems alike."""
_SHARES = ("0.05", _HIDDEN, "0.4")
"""What else is tried on the first draw."""


@dataclass(frozen=True)
class Case:
    """A dataset, and what is measured on it.

    Attributes:
        source: what its config is given of the user's data.
        exposures: kept rows of new items beyond 0.
        systems: those of `SYSTEMS` that are run; base, ridge and v5 always are.
    """

    name: str
    config: str
    source: str
    exposures: tuple[int, ...]
    systems: tuple[str, ...] = tuple(SYSTEMS)
    seeds: tuple[int, ...] = SEEDS

    @property
    def folder(self) -> Path:
        """Where all of it is kept."""
        return Path("runs/records") / self.name

    def commands(self) -> list[str]:
        """Of all draws."""
        drawn = [command for seed in self.seeds for command in self._draw(seed)]
        return drawn + [command for seed in self.seeds for command in self._judged(seed, [*self._neighbours])]

    def _draw(self, seed: int) -> Iterator[str]:
        judged = self.folder / f"seed-{seed}.json"
        base = self.words(seed, "base")
        yield from self.rankers(seed, self.systems[1:])
        yield from self._judged(seed, self._rivals)
        for exposure in self.exposures:
            for system in _TUNED:
                words = self.words(seed, system)
                yield f"python -m tools.floor {words} --system finetune --exposure {exposure}"
            scores = " ".join(
                f"--scores {system}={self.run_of(seed, system)}/floor/finetune/n={exposure}" for system in _TUNED
            )
            only = f"--exposure {exposure} {_only(f'n={exposure}')}"
            for rival in _TUNED[:2]:
                yield f"python -m tools.evaluate {base} {scores} --against {rival} {only} --out {judged}"

    def rankers(self, seed: int, systems: tuple[str, ...] = ("v5",)) -> Iterator[str]:
        """Base, its proxies and the systems that read them; the first draw makes the text vectors of all."""
        base = self.words(seed, "base")
        yield f"python -m tools.prepare {base}"
        if not seed:
            yield f"python -m tools.content {base} --out {self._content}"
        yield from trained(base)
        yield f"python -m tools.align {base} floor.content={self._content}"
        for system in systems:
            yield from trained(self.words(seed, system))

    @property
    def _neighbours(self) -> dict[str, str]:
        """What comes after what in the paper's order, beyond v5 and v4."""
        return {"v3": "v4", "v2": "v3"} if {"v2", "v3", "v4"} <= {*self.systems} else {}

    @property
    def _rivals(self) -> list[str]:
        return [rival for rival in _COMPARED if rival in self.systems]

    @property
    def _content(self) -> Path:
        """Text vectors: draws differ in who is new, not in what an item says."""
        return self.folder / "content-0.parquet"

    def _judged(self, seed: int, rivals: list[str]) -> Iterator[str]:
        """All systems against each of `rivals`, before any feedback."""
        scores = " ".join(f"--scores {system}={self.run_of(seed, system)}/scores/test" for system in self.systems)
        out = f"{_only('warm', 'n=0')} --out {self.folder / f'seed-{seed}.json'}"
        for rival in rivals:
            yield f"python -m tools.evaluate {self.words(seed, 'base')} {scores} --against {rival} {out}"

    def hidden_commands(self) -> list[str]:
        """Of the first draw's base and v5 under other shares of hidden IDs; after `commands`."""
        asked = []
        for share in _SHARES:
            if share != _HIDDEN:
                base, v5 = (self.words(SEEDS[0], system, share) for system in ("base", "v5"))
                asked += [f"python -m tools.prepare {base}", *trained(base), *trained(v5)]
            scores = (f"--scores {name}={self.run_of(SEEDS[0], name, share)}/scores/test" for name in ("base", "v5"))
            out = f"--out {self.folder}/hidden-{share}.json"
            words = self.words(SEEDS[0], "base", share)
            asked.append(f"python -m tools.evaluate {words} {' '.join(scores)} {_only('warm', 'n=0')} {out}")
        return asked

    def run_of(self, seed: int, system: str, share: str = _HIDDEN) -> Path:
        """Its run folder in a draw."""
        return self.folder / f"seed-{seed}" / (system if share == _HIDDEN else f"{system}-hidden-{share}")

    def words(self, seed: int, system: str, share: str = _HIDDEN) -> str:
        """Config and overrides of a system in a draw."""
        base = self.run_of(seed, "base") / "proxy"
        coarse = {
            "v1": self._content,
            "v2": base / "rivals/v2.parquet",
            "ridge": base / "rivals/ridge-even.parquet",
        }.get(system, base / "vectors/coarse.parquet")
        over = "" if system == "base" else f" configs/idproxy/{system}.yaml"
        words = f"{self.config}{over} run={self.run_of(seed, system, share)} data.path=data/{self.name}-{seed}"
        words += f" {self.source} data.split.seed={seed} train.seed={seed} train.hide_ids={share}"
        if system != "base":
            words += f" model.proxy.coarse={coarse}"
        if system in ("v4", "v5"):
            words += f" model.proxy.layers={base}/vectors/layers.parquet"
        return words

    def table(self) -> str:
        """AUC and GAUC of warm and new items, differences with intervals, and what is left of them after feedback."""
        found = draws.combine([results.read(self.folder / f"seed-{seed}.json") for seed in self.seeds])
        lines = head("system", _HEADS)
        for system in self.systems:
            lines.append(row(SYSTEMS[system], found["systems"][system], ("warm", "n=0"), ".4f"))
        lines += ["", *head("paired difference", _HEADS)]
        for rival in self._rivals:
            for system in self.systems if rival == "base" else ("v5",):
                if system != rival:
                    one = found["differences"][f"{system} - {rival}"]
                    lines.append(row(f"{system} − {_COMPARED[rival]}", one, ("warm", "n=0"), "+.4f"))
        for rival, system in self._neighbours.items():
            one = found["differences"][f"{system} - {rival}"]
            lines.append(row(f"{system} − {rival}", one, ("warm", "n=0"), "+.4f"))
        if rest := self.seeds[1:]:
            cleaner = draws.combine([results.read(self.folder / f"seed-{seed}.json") for seed in rest])
            for rival in ("base", "ridge"):
                one = cleaner["differences"][f"v5 - {rival}"]
                lines.append(row(f"v5 − {rival}, without seed {self.seeds[0]}", one, ("warm", "n=0"), "+.4f"))
        heads = [f"n={n} {metric}" for n in self.exposures for metric in ("AUC", "GAUC")]
        segments = tuple(f"n={n}" for n in self.exposures)
        lines += ["", *head("new rows fine-tuned", heads)]
        lines += [row(SYSTEMS[system], found["systems"][system], segments, ".4f") for system in _TUNED]
        for system, rival in (("ridge", "base"), ("v5", "base"), ("v5", "ridge")):
            lines.append(row(f"{system} − {rival}", found["differences"][f"{system} - {rival}"], segments, "+.4f"))
        seeds = ", ".join(map(str, self.seeds))
        warm, new = (found["systems"]["base"][segment] for segment in ("warm", "n=0"))
        lines += [
            "",
            f"{found['dataset']}, {found['split']}, seed {seeds} (each draws other new items and weights); a draw has "
            f"{warm['rows']:,} warm rows and {new['rows']:,} of new items, whose users of both classes are "
            f"{new['users']:,}; two-way bootstrap 95 % intervals, {found['interval']}.",
        ]
        return "\n".join(lines)

    def hidden_table(self) -> str:
        """What both have of each share, and what v5 adds."""
        lines = head("hidden", ("system", *_HEADS))
        for share in _SHARES:
            found = results.read(self.folder / f"hidden-{share}.json")
            for name, key, form in (
                ("base", "systems", ".4f"),
                ("v5", "systems", ".4f"),
                ("v5 - base", "differences", "+.4f"),
            ):
                lines.append(f"| {share} " + row(name, found[key][name], ("warm", "n=0"), form))
        told = f"{found['dataset']}, {found['split']}, seed {SEEDS[0]}; proxies aligned to the base of {_HIDDEN}."
        return "\n".join([*lines, "", told])


def _only(*segments: str) -> str:
    return " ".join(f"--only {segment}" for segment in segments)


def movielens(content: str | None) -> Case:
    """content: Parquet with the movies' overviews."""
    return Case("idproxy-movielens", "configs/movielens-1m.yaml", f"data.source.content={content}", (2, 8, 20))


def kuairand(path: str | None) -> Case:
    """path: the dataset's folder."""
    systems, source = ("base", "v1", "ridge", "v5"), f"data.source.path={path}"
    return Case("idproxy-kuairand", "configs/kuairand-pure.yaml", source, (2, 8, 20), systems, seeds=(0,))
