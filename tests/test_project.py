"""The walls of the house: which package may import which, small files, honest locks, no machine's own paths."""

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# A unit may import units of its own floor (without a circle) and of the floors below. A new unit is given a floor here.
FLOORS: list[set[str]] = [
    {
        "recsys.errors",
        "recsys.config",
        "recsys.config_backbone",
        "recsys.config_cost",
        "recsys.config_daily",
        "recsys.config_generate",
        "recsys.config_lifecycle",
        "recsys.config_pipeline",
        "recsys.config_prompt",
        "recsys.config_prompt_model",
        "recsys.config_proxy",
        "recsys.config_search",
        "recsys.config_serving",
        "recsys.config_simulator",
        "recsys.config_slot",
        "recsys.config_train",
        "recsys.config_types",
        "recsys.settings",
        "recsys.storage",
        "recsys.files",
        "recsys.journal",
        "recsys.distributed",
    },
    {"recsys.data"},
    {"recsys.model", "recsys.content", "recsys.training", "recsys.trials"},
    {"recsys.tables", "recsys.evaluate", "recsys.rivals"},
    {"recsys.runs", "recsys.score", "recsys.train", "recsys.predict", "recsys.generate", "recsys.cost"},
    {"recsys.coldrows", "recsys.serving"},
    {"recsys.floor"},
    {"recsys.backbones", "recsys.prompt", "recsys.search"},
    {"recsys.lifecycle"},
    {"recsys.pipeline", "recsys.explain", "recsys.daily"},
    {"recsys.bench", "recsys.records", "recsys.report"},
    {"proxy", "simulator"},
    {"tools"},
]
# Stricter than the floors: evaluation judges anybody's scores, and the two sources of item rows meet in data only.
NEVER = {
    ("recsys.evaluate", "recsys.model"),
    ("recsys.evaluate", "recsys.tables"),
    ("recsys.evaluate", "recsys.rivals"),
    ("proxy", "simulator"),
    ("simulator", "proxy"),
}
FLOOR_OF = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}
PRODUCT = ("recsys", "simulator", "proxy", "tools")
MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(work|tmp|root|opt|mnt|home/\w+|Users/\w+)/")
INDEX_HOST = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|--(extra-)?index-url https?:|--find-links")


def sources(*folders: str) -> list[Path]:
    """Python files below the repository's folders, those that exist."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def unit_of(module: str) -> str:
    """`recsys.data.splits` is in the unit `recsys.data`, `tools.train` in `tools`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "recsys" else parts[0]


def imports_of(source: str, package: str) -> Iterator[str]:
    """Every module of this project that the source names in an import, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parent, node.module] if node.module else parent)
            names = [f"{base}.{alias.name}" if base == "recsys" else base for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PRODUCT and name != "recsys")


def edges() -> Iterator[tuple[Path, str, str]]:
    """(file, its unit, a unit it imports), within and across units."""
    for path in sources(*PRODUCT):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts == ("recsys", "__init__"):
            continue
        for name in imports_of(path.read_text(), ".".join(parts[:-1])):
            yield path.relative_to(ROOT), unit_of(".".join(parts)), unit_of(name)


def complaint(unit: str, imported: str) -> str | None:
    """What is wrong with one unit importing another."""
    for name in (unit, imported):
        if name not in FLOOR_OF:
            return f"{name} has no floor: add it to FLOORS in tests/test_project.py"
    if FLOOR_OF[imported] > FLOOR_OF[unit] or (unit, imported) in NEVER:
        return f"{unit} must not import {imported}"
    return None


def test_imports_run_downwards() -> None:
    wrong = [f"{path}: {said}" for path, unit, imported in edges() if (said := complaint(unit, imported))]
    assert not wrong, "\n".join(wrong)


def test_units_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for _, unit, imported in edges():
        if unit != imported:
            graph.setdefault(unit, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_the_walk_sees_every_form_of_import() -> None:
    source = (
        "import recsys.train as t\nfrom recsys import data\ndef f():\n    from ..tables import a\n    from . import b"
    )
    assert list(imports_of(source, "recsys.evaluate")) == [
        "recsys.train",
        "recsys.data",
        "recsys.tables",
        "recsys.evaluate",
    ]
    assert complaint("recsys.data", "tools") == "recsys.data must not import tools"
    assert complaint("recsys.evaluate", "recsys.model") == "recsys.evaluate must not import recsys.model"
    assert complaint("tools", "recsys.train") is None
    assert "has no floor" in (complaint("recsys.attic", "recsys.data") or "")


def test_files_are_small() -> None:
    files = sources(*PRODUCT, "tests", "requirements")
    long = {str(path.relative_to(ROOT)): n for path in files if (n := len(path.read_text().splitlines())) > 400}
    assert not long, f"one idea a file, at most 400 lines: {long}"


def test_nothing_names_a_machine() -> None:
    files = sources(*PRODUCT, "requirements")
    files += [path for folder in ("configs", "requirements", ".ci") for path in (ROOT / folder).rglob("*")]
    files += [ROOT / "Makefile", ROOT / "pyproject.toml"]
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted({path for path in files if path.is_file() and "__pycache__" not in path.parts})
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MACHINE_PATH.search(line) or INDEX_HOST.search(line)
    ]
    assert not wrong, "a path or package index of one machine:\n" + "\n".join(wrong)


def pins(kind: str) -> dict[str, str]:
    """{name: version} of a lock, which holds nothing but comments and exact versions."""
    lines = (ROOT / "requirements" / f"{kind}.lock").read_text().splitlines()
    found = [re.fullmatch(r"([a-z0-9-]+)==([0-9][\w.]*)", line) for line in lines if not line.startswith("#")]
    assert all(found), "a lock line that is not name==version"
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("kind", ["cpu", "cuda", "vllm"])
def test_locks_serve_the_declared_dependencies(kind: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locked = pins(kind)
    declared = extras[kind] if kind == "vllm" else project["dependencies"] + extras[kind] + extras["dev"]
    for requirement in map(Requirement, declared):
        name = canonicalize_name(requirement.name)
        assert name in locked and locked[name] in requirement.specifier, f"{requirement} is not in the lock"


def test_the_cpu_lock_has_nothing_of_cuda_and_the_two_agree() -> None:
    cpu, cuda = pins("cpu"), pins("cuda")
    assert set(cpu) - set(cuda) == {"fbgemm-gpu-cpu"} and set(cuda) - set(cpu) == {"fbgemm-gpu"}
    assert all(cpu[name] == cuda[name] for name in set(cpu) & set(cuda))
    assert not [name for name in [*cpu, *pins("vllm")] if re.match(r"nvidia|cuda|triton|torchvision|torchaudio", name)]
