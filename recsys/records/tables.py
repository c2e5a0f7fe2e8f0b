"""The tables of record: for each its page, the commands that measure it, and the Markdown made of what they wrote.

Commands run in order, from the repository's root; a record may use what an earlier one left.
"""

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from recsys.bench.frame import amount
from recsys.errors import InputError
from recsys.evaluate import draws, report, results
from recsys.pipeline import steps
from recsys.records import coldllm, daily, floor, idproxy, leave_one_out, network, promo, road, simulated
from recsys.records.commands import trained
from recsys.rivals import summary

FOLDER = Path("runs/records")
_RANKING = ["recall@20", "ndcg@20", "hitrate@10/100", "ndcg@10/100"]


@dataclass(frozen=True)
class Paths:
    """Data that is the user's own: KuaiRand-Pure's folder, and a Parquet file with the movies' overviews."""

    kuairand: str | None = None
    content: str | None = None


_KEYS, _SHOWN = ("KUAIRAND", "CONTENT"), ("KUAIRAND_FOLDER", "MOVIES.parquet")


@dataclass(frozen=True)
class Record:
    """One block of a page."""

    name: str
    folder: str
    """Whose README.md is the page."""
    commands: Callable[[Paths], list[str] | None]
    """None: the data is not there."""
    table: Callable[[Paths], str]

    @property
    def page(self) -> Path:
        """Its file, from the repository's root."""
        return Path(self.folder) / "README.md"

    def block(self, paths: Paths) -> str:
        """The table and the command that makes it, with names in place of the user's own paths.

        Raises:
            InputError: the commands have not left what the table is made of.
        """
        try:
            table = self.table(paths)
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{self.name}: its commands left no such results: {error!r}") from None
        return f"{table}\n\n{self.made_by(paths)}"

    def made_by(self, paths: Paths) -> str:
        """One line of Markdown: the command, and of how many it is made."""
        commands = (
            self.commands(Paths(*(path and name for path, name in zip(astuple(paths), _SHOWN, strict=True)))) or []
        )
        given = [f"{key}={name}" for key, name in zip(_KEYS, _SHOWN, strict=True) if any(name in c for c in commands)]
        words = " ".join(["make records", *given, f'ARGS="--only {self.name}"'])
        count = f"{len(commands)} command{'s' * (len(commands) > 1)}"
        return f"`{words}` ({count}; `--list` prints them)"


def _prepared(config: str) -> list[str]:
    return [f"python -m tools.prepare {config}", *trained(config)]


def _demo(paths: Paths) -> list[str]:
    return [step.command for step in steps.read("configs/demo.yaml", [])[1]]


def _demo_table(paths: Paths) -> str:
    segments = ["warm", "100+", "20-99", "5-19", "1-4", "n=0"]
    found = results.read(Path("runs/demo/results.json"))
    # Other rows are the base's, whose bits simulation and feedback leave as they are.
    few: dict[str, tuple[str, ...]] = dict.fromkeys(("simulated", "simulated - base"), ("warm", "n=0"))
    fed = ("base/finetuned", "promo", "road")
    few |= dict.fromkeys((*fed, *(f"{name} - base/finetuned" for name in fed)), ("n=8",))
    both = dict(found)
    for key, names in (
        ("systems", ("base", "idproxy", "simulated", *fed)),
        ("differences", ("idproxy - base", "simulated - base", *(f"{name} - base/finetuned" for name in fed[1:]))),
    ):
        both[key] = {
            name: {segment: found[key][name][segment] for segment in few.get(name, segments)} for name in names
        }
    segments.append("n=8")
    changes = report.markdown(both, _POINTWISE[:2], segments, key="differences")
    return report.markdown(both, _POINTWISE, segments) + "\n" + changes


_POINTWISE = ["auc", "gauc", "logloss", "calibration"]


def _rivals(config: str, path: str = "") -> list[str]:
    return [
        f"python -m tools.prepare {config}{path}",
        f"python -m tools.rivals {config}{path} --budget 8 --seeds 0 1 2",
    ]


def _rivals_table(run: str) -> str:
    return summary.markdown(json.loads((Path(run) / "rivals" / "results.json").read_text()))


_SHARES = ("0", "0.15")


def _hide_ids(paths: Paths) -> list[str]:
    asked, scores = [], [f"--scores base={floor.run_of(0)}/scores/test"]
    for share in _SHARES:
        run = FOLDER / f"hide-{share}"
        asked += _prepared(f"configs/movielens-1m.yaml run={run} train.hide_ids={share}")
        scores.append(f"--scores base/hide-{share}={run}/scores/test")
    only = "--only warm --only n=0"
    return [*asked, f"python -m tools.evaluate {floor.drawn(0)} {' '.join(scores)} {only} --out {FOLDER}/hide-ids.json"]


def _hide_ids_table(paths: Paths) -> str:
    found = results.read(FOLDER / "hide-ids.json")
    return report.markdown(found, _POINTWISE[:2]) + "\n" + report.markdown(found, _POINTWISE[:2], key="differences")


def _cold_items(paths: Paths) -> list[str]:
    asked = []
    for seed in floor.SEEDS:
        run = FOLDER / f"cold-items-seed{seed}"
        config = f"configs/movielens-1m-cold-items.yaml run={run}"
        if seed:
            config += f" data.path=data/movielens-1m-cold-items-seed{seed} data.split.seed={seed} train.seed={seed}"
        asked += _prepared(config)[:2]
        systems = f"--vectors base={run}/export/parquet --vectors popularity={run}/popularity"
        asked += [f"python -m tools.{tool} {config}" for tool in ("export", "popularity")]
        asked.append(f"python -m tools.evaluate {config} {systems}")
    return asked


def _cold_items_table(paths: Paths) -> str:
    found = [results.read(FOLDER / f"cold-items-seed{seed}" / "results.json") for seed in floor.SEEDS]
    together = draws.combine(found)
    table = report.markdown(together, _RANKING) + "\n" + report.markdown(together, _RANKING, key="differences")
    told = "\n".join(f"- {name}: {text}" for name, text in found[0]["protocol"].items() if isinstance(text, str))
    return f"{table}\n{found[0]['dataset']}, {found[0]['split']}, seeds {', '.join(map(str, floor.SEEDS))}.\n\n{told}"


def _bench_table(paths: Paths) -> str:
    told = json.loads(Path("runs/bench.json").read_text())
    lines = ["| row | ours | bound | ratio | bound is |", "|---|---:|---:|---:|---|"]
    for name, row in told.items():
        rates = " | ".join(f"{amount(row[key])} {row['unit']}" for key in ("ours", "bound"))
        lines.append(f"| {name} | {rates} | {row['ratio']:.3f} | {row['bound_is']} |")
    machine = next(iter(told.values()))["machine"]
    lines += [
        "",
        f"{machine['cores']} cores ({machine['cpu']}), torch {machine['torch']}; medians of alternating rounds.",
    ]
    return "\n".join(lines)


class _Case(Protocol):
    """What a record measures."""

    def commands(self) -> list[str]: ...

    def table(self) -> str: ...


_C = TypeVar("_C", bound=_Case)


def _of(name: str, folder: str, case: _Case) -> Record:
    return Record(name, folder, lambda paths: case.commands(), lambda paths: case.table())


def _of_own(
    name: str,
    folder: str,
    data: Literal["kuairand", "content"],
    made: Callable[[str | None], _C],
    table: Callable[[_C], str] = lambda case: case.table(),
) -> Record:
    """Of data that is the user's own; `table` where the case's is not what is shown."""

    def commands(paths: Paths) -> list[str] | None:
        given = getattr(paths, data)
        return made(given).commands() if given else None

    return Record(name, folder, commands, lambda paths: table(made(getattr(paths, data))))


RECORDS = (
    Record("demo", "", _demo, _demo_table),
    Record(
        "rivals-movielens",
        "recsys/evaluate",
        lambda paths: _rivals("configs/movielens-1m.yaml"),
        lambda paths: _rivals_table("runs/movielens-1m"),
    ),
    Record(
        "rivals-kuairand",
        "recsys/evaluate",
        lambda paths: (
            _rivals("configs/kuairand-pure.yaml", f" data.source.path={paths.kuairand}") if paths.kuairand else None
        ),
        lambda paths: _rivals_table("runs/kuairand-pure"),
    ),
    Record(
        "floor-movielens",
        "recsys/evaluate",
        lambda paths: floor.commands(paths.content),
        lambda paths: floor.table(paths.content),
    ),
    Record("hide-ids", "recsys/evaluate", _hide_ids, _hide_ids_table),
    _of_own("idproxy-movielens", "proxy", "content", idproxy.movielens),
    Record(
        "idproxy-hidden",
        "proxy",
        lambda paths: idproxy.movielens(paths.content).hidden_commands() if paths.content else None,
        lambda paths: idproxy.movielens(paths.content).hidden_table(),
    ),
    _of_own("idproxy-kuairand", "proxy", "kuairand", idproxy.kuairand),
    _of("promo-movielens", "recsys/prompt", promo.movielens()),
    _of_own("promo-kuairand", "recsys/prompt", "kuairand", promo.kuairand),
    _of("promo-warm-up", "recsys/prompt", promo.warm_up()),
    Record("promo-network", "recsys/prompt", lambda paths: network.commands(), lambda paths: network.table()),
    _of("promo-100k", "recsys/prompt", leave_one_out.small()),
    _of("promo-1m", "recsys/prompt", leave_one_out.large()),
    Record("gauge-movielens", "simulator", lambda paths: coldllm.gauge_commands(), lambda paths: coldllm.gauge_table()),
    Record(
        "simulated-movielens",
        "simulator",
        lambda paths: simulated.commands(paths.content) if paths.content else None,
        lambda paths: simulated.table(),
    ),
    Record(
        "coldllm-movielens",
        "simulator",
        lambda paths: coldllm.commands(paths.content) if paths.content else None,
        lambda paths: coldllm.table(),
    ),
    _of_own("headline-movielens", "", "content", road.movielens, road.Case.headline),
    _of_own("headline-kuairand", "", "kuairand", road.kuairand, road.Case.headline),
    _of_own("road-movielens", "recsys/lifecycle", "content", road.movielens),
    _of_own("road-kuairand", "recsys/lifecycle", "kuairand", road.kuairand),
    Record("cold-items", "recsys/evaluate", _cold_items, _cold_items_table),
    _of_own("daily-kuairand", "recsys/daily", "kuairand", daily.kuairand),
    _of("daily-generated", "recsys/daily", daily.generated()),
    Record("bench", "recsys/bench", lambda paths: ["python -m tools.bench configs/bench.yaml"], _bench_table),
)
