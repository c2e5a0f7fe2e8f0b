"""Sealed blocks, and the repository's own README: no table in it was touched by hand."""

from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.records import readme
from recsys.records.tables import RECORDS, Paths
from tools import records

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- one -->\nold\n<!-- /one -->\nbetween\n<!-- two -->\n<!-- /two -->\nafter\n")
    return path


def test_a_block_is_replaced_and_nothing_else(page: Path) -> None:
    assert readme.names(page) == readme.broken(page) == ["one", "two"]
    readme.put(page, "one", r"| 0.5 \1 |")
    readme.put(page, "two", "x\n\n")
    readme.put(page, "two", "y")
    text = page.read_text()
    assert text.startswith("before\n<!-- one -->\n| 0.5 \\1 |\n<!-- /one ") and text.endswith("-->\nafter\n")
    assert "old" not in text and "\nx\n" not in text and "<!-- two -->\ny\n<!-- /two " in text
    assert readme.broken(page) == []


def test_a_number_changed_by_hand_shows(page: Path) -> None:
    for name in readme.names(page):
        readme.put(page, name, f"{name} 0.731")
    page.write_text(page.read_text().replace("two 0.731", "two 0.732"))
    assert readme.broken(page) == ["two"]


def test_a_page_without_the_markers_is_refused(page: Path) -> None:
    before = page.read_text()
    with pytest.raises(InputError, match="one pair of markers <!-- three --> and <!-- /three -->, found 0"):
        readme.put(page, "three", "x")
    assert page.read_text() == before
    readme.require(page, ["one", "two"])
    with pytest.raises(InputError, match="no marker <!-- three -->"):
        readme.require(page, ["one", "three"])
    with pytest.raises(InputError, match="no such file"):
        readme.require(page.with_name("other.md"), [])


def test_every_table_of_the_readme_is_a_record_and_as_it_was_written() -> None:
    assert sorted(readme.names(README)) == sorted(record.name for record in RECORDS)
    assert readme.broken(README) == []


def test_a_record_tells_its_command_without_the_users_paths(capsys: pytest.CaptureFixture[str]) -> None:
    record = next(record for record in RECORDS if record.name == "rivals-kuairand")
    assert record.made_by(Paths(kuairand="/home/me/data")) == (
        '`make records KUAIRAND=KUAIRAND_FOLDER ARGS="--only rivals-kuairand"` (2 commands; `--list` prints them)'
    )
    records.main(["--only", "rivals-kuairand", "--kuairand", "/home/me/data", "--list"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "# rivals-kuairand" and len(told) == 3
    assert all("data.source.path=/home/me/data" in command for command in told[1:])
