"""Sealed blocks, and the repository's own pages: no table was touched by hand, and what they show is there."""

import re
import shlex
from pathlib import Path
from string import Template

import pytest

from recsys import settings
from recsys.config import Config
from recsys.config_generate import Generate
from recsys.errors import InputError
from recsys.records import pages
from recsys.records.tables import RECORDS, Paths
from tests.records.parsing import parse
from tools import records

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *(page for folder in ("recsys", "proxy", "simulator") for page in sorted((ROOT / folder).rglob("README.md"))),
]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- one -->\nold\n<!-- /one -->\nbetween\n<!-- two -->\n<!-- /two -->\nafter\n")
    return path


def test_a_block_is_replaced_and_nothing_else(page: Path) -> None:
    assert pages.names(page) == pages.broken(page) == ["one", "two"]
    pages.put(page, "one", r"| 0.5 \1 |")
    pages.put(page, "two", "x\n\n")
    pages.put(page, "two", "y")
    text = page.read_text()
    assert text.startswith("before\n<!-- one -->\n| 0.5 \\1 |\n<!-- /one ") and text.endswith("-->\nafter\n")
    assert "old" not in text and "\nx\n" not in text and "<!-- two -->\ny\n<!-- /two " in text
    assert pages.broken(page) == []


def test_a_number_changed_by_hand_shows(page: Path) -> None:
    for name in pages.names(page):
        pages.put(page, name, f"{name} 0.731")
    page.write_text(page.read_text().replace("two 0.731", "two 0.732"))
    assert pages.broken(page) == ["two"]


def test_a_page_without_the_markers_is_refused(page: Path) -> None:
    before = page.read_text()
    with pytest.raises(InputError, match="one pair of markers <!-- three --> and <!-- /three -->, found 0"):
        pages.put(page, "three", "x")
    assert page.read_text() == before
    pages.require(page, "two")
    with pytest.raises(InputError, match="no marker <!-- three -->"):
        pages.require(page, "three")
    with pytest.raises(InputError, match="no such file"):
        pages.require(page.with_name("other.md"), "one")


def test_every_table_is_a_record_on_its_page_and_as_it_was_written() -> None:
    held = [(name, page) for page in PAGES for name in pages.names(page)]
    assert sorted(held) == sorted((record.name, ROOT / record.page) for record in RECORDS)
    assert {page: pages.broken(page) for page in PAGES} == {page: [] for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert path.startswith("https://") or target.is_file(), f"{page}: {path}"
        heads = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_what_the_tools_take(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in _commands(page.read_text()):
        if words[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
            assert words[1] in targets
        elif "-m" in words and (tool := words[words.index("-m") + 1]).startswith("tools."):
            arguments = parse(tool, words[words.index("-m") + 2 :])
            if Path(getattr(arguments, "config", "none")).is_file():
                schema = Generate if tool == "tools.generate" else Config
                there = [word for word in arguments.overrides if "=" in word or Path(word).is_file()]
                settings.load_as(schema, arguments.config, there)


def _commands(text: str) -> list[list[str]]:
    """The words of each command in a fenced block of no language, with what the block's own variables stand for."""
    found = []
    for block in (block for language, block in _FENCED.findall(text) if not language):
        variables: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            if given := re.match(r'([A-Z]+)="?([^"#]*?)"?(?:\s+#.*)?$', line):
                variables[given[1]] = given[2]
            elif re.match(r"(python|torchrun|make) ", line):
                found.append(shlex.split(Template(line).substitute(variables), comments=True))
    return found


def test_a_record_tells_its_command_without_the_users_paths(capsys: pytest.CaptureFixture[str]) -> None:
    record = next(record for record in RECORDS if record.name == "rivals-kuairand")
    assert record.made_by(Paths(kuairand="/home/me/data")) == (
        '`make records KUAIRAND=KUAIRAND_FOLDER ARGS="--only rivals-kuairand"` (2 commands; `--list` prints them)'
    )
    records.main(["--only", "rivals-kuairand", "--kuairand", "/home/me/data", "--list"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "# rivals-kuairand" and len(told) == 3
    assert all("data.source.path=/home/me/data" in command for command in told[1:])
