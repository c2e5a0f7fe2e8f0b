"""Every command of record is one that the tools take, and the floor's table is made of what they write."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.floor.about import About
from recsys.records import floor
from recsys.records.tables import RECORDS, Paths
from recsys.tables import checkpoint
from recsys.tables.checkpoint import Progress
from recsys.tables.version import Version
from tests.records.parsing import load, parse

ROOT = Path(__file__).resolve().parents[2]


# What a headline is made of is what the table of the same dataset is made of: parsed there.
_MEASURED = [record for record in RECORDS if not record.name.startswith("headline-")]


@pytest.mark.parametrize("record", _MEASURED, ids=[record.name for record in _MEASURED])
def test_commands_are_what_the_tools_take(record: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    commands = record.commands(Paths("kuairand", "movies.parquet"))  # type: ignore[attr-defined]
    assert commands and len(set(commands)) == len(commands)
    for command in commands:
        words = shlex.split(command)
        tool = words[words.index("-m") + 1]
        arguments = parse(tool, words[words.index("-m") + 2 :])
        load(tool, arguments.config, arguments.overrides)


def test_a_headline_takes_no_commands_of_its_own() -> None:
    by_name, paths = {record.name: record for record in RECORDS}, Paths("kuairand", "movies.parquet")
    for dataset in ("movielens", "kuairand"):
        headline, table = (by_name[f"{name}-{dataset}"].commands(paths) for name in ("headline", "road"))
        assert headline and headline == table


def test_nothing_of_the_users_own_paths_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    record = replace(RECORDS[3], table=lambda paths: "| a table |")
    block = record.block(Paths(content="/home/me/movies.parquet"))
    assert block.startswith("| a table |\n\n`make records CONTENT=MOVIES.parquet ARGS=") and "/home/me" not in block
    monkeypatch.chdir(ROOT / "tests")
    with pytest.raises(InputError, match="demo: its commands left no such results"):
        RECORDS[0].block(Paths())


def test_without_its_data_a_table_is_left_or_made_without_it() -> None:
    by_name = {record.name: record for record in RECORDS}
    assert by_name["rivals-kuairand"].commands(Paths()) is None
    assert not any("overviews" in command for command in by_name["floor-movielens"].commands(Paths()) or [])


def test_the_floor_stands_with_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in floor.SEEDS:
        for system in ("means", "finetune", "ridge"):
            for n in floor.EXPOSURES:
                folder = tmp_path / floor.run_of(seed) / "floor" / system / f"n={n}"
                folder.mkdir(parents=True)
                steps = (seed + n) if system == "finetune" else 0
                told = About(system=system, exposure=n, dataset="", settings={}, items=3, converged=n < 60)
                replace(told, gradient_steps=steps, passes=2 * steps).save(folder)
        entry = {"auc": [0.7 + seed / 100, 0.6, 0.8], "gauc": [0.6, 0.5, 0.7], "rows": 100, "users": 10 + seed}
        systems = {name: {f"n={n}": entry for n in floor.EXPOSURES} for name in ("base", "means", "finetune", "ridge")}
        floor.FOLDER.mkdir(parents=True, exist_ok=True)
        found = {"dataset": "d", "split": "exposure/user/test", "seeds": [seed], "systems": systems}
        found["differences"] = {f"{name} - base": systems[name] for name in ("means", "finetune", "ridge")}
        saved = tmp_path / floor.run_of(seed) / "checkpoints" / "step-00000007"
        (partial := saved.with_suffix(".partial")).mkdir(parents=True)
        checkpoint.seal(partial, saved, Progress(6 + seed, best_auc=0.7), Version("tables", "run"), {})
        (floor.FOLDER / f"seed-{seed}.json").write_text(json.dumps(found))
    lines = floor.table(None).splitlines()
    assert "| base, as it is | 0.7100 [0.6000, 0.8000] |" in lines[2]
    assert lines[4].count("0.7100 [0.6000, 0.8000]<br>") == 6
    assert "<br>9 steps, 18 passes |" in lines[4] and "<br>61 steps, 122 passes, not converged |" in lines[4]
    assert lines[7].startswith("| AUC, less the base's (paired) |") and "| +0.7100 [+0.6000, +0.8000] |" in lines[9]
    assert "100 rows and 11 users" in lines[-1] and "took 7 steps" in lines[-1]
    assert not any("overviews" in line for line in lines)
