"""Sealed blocks, and the repository's own pages: no table was touched by hand, and what they show is there."""

import argparse
import re
import shlex
from pathlib import Path
from string import Template

import pytest

from recsys.errors import InputError
from recsys.records import pages
from recsys.records.tables import RECORDS, Paths
from tests.records.parsing import load, parse
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


def test_the_readme_leads_to_every_page() -> None:
    led = {(ROOT / path).resolve() for path, _ in _LINK.findall(PAGES[0].read_text()) if path}
    assert set(PAGES[1:]) <= led


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_nothing_is_left_open(page: Path) -> None:
    assert not re.search("@@|TODO", page.read_text())
    for path, anchor in _LINK.findall(page.read_text()):
        if path.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {path}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            anchors = [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads]
            assert anchor in anchors, f"{page}: {path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_what_the_tools_take(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for words in _commands(page.read_text()):
        missing = [word for word in words if word.startswith("configs/") and not Path(word).is_file()]
        assert not missing, f"{page}: {' '.join(words)}: {missing}"
        if words[0] == "make":
            assert words[1] in targets, f"{page}: {' '.join(words)}"
        elif "-m" in words and (tool := words[words.index("-m") + 1]).startswith("tools."):
            _load(tool, parse(tool, words[words.index("-m") + 2 :]))
    for tool in re.findall(r"`tools\.(\w+)", page.read_text()):
        assert (ROOT / "tools" / f"{tool}.py").is_file(), f"{page}: tools.{tool}"


def _load(tool: str, arguments: argparse.Namespace) -> None:
    """The config with the overrides; for a file that is the reader's own stands one of ours, or nothing."""
    config = getattr(arguments, "config", "") or ""
    given = [*getattr(arguments, "overrides", []), *getattr(arguments, "words", [])]
    overrides = [word for word in given if "=" in word or word.startswith("configs/")]
    stands = config if config.startswith("configs/") else "configs/movielens-1m.yaml"
    load(tool, stands, overrides)


def _commands(text: str) -> list[list[str]]:
    """The words of each command in a fenced block, with what the block's own variables stand for."""
    found = []
    for language, block in _FENCED.findall(text):
        assert language in ("", "yaml", "python"), f"```{language}: expected shell without a language, yaml or python"
        variables: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines() if not language else ():
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
