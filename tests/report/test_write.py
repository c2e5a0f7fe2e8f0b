"""The page as a whole: what is on it, what is not, and what is refused."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from recsys.errors import InputError
from recsys.report.write import PAGE, write
from tests.report import planted
from tests.report.planted import HOSTILE, WORDS

FIGURES = ["auc", "auc-differences", "gauc", "gauc-differences", "warm-up", "scores", "space", "funnel"]
FIGURES += ["retention", "calibration", "cost"]


class Page(HTMLParser):
    """Its elements with their attributes, and all its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def page(reported: Path) -> Page:
    return Page((reported / "run" / "report" / PAGE).read_text())


def test_every_figure_has_its_picture_its_words_its_table_and_its_commands(reported: Path, page: Page) -> None:
    assert [section["id"] for section in page.of("section")] == FIGURES
    assert len(page.of("table")) == len(page.of("details")) == len(page.of("figure")) == len(FIGURES)
    assert all(svg["role"] == "img" and len(svg["aria-label"] or "") > 20 for svg in page.of("svg"))
    assert "not run" not in page.text
    files = {file.name for file in (reported / "run" / "report").iterdir()}
    assert files == {PAGE, *(f"{name}.png" for name in FIGURES)}
    for name in FIGURES:
        with Image.open(reported / "run" / "report" / f"{name}.png") as picture:
            assert picture.width > 700 and len(picture.convert("L").getcolors() or ()) > 20
    told = json.loads((reported / "run" / "results.json").read_text())["systems"]["idproxy"]["all"]["auc"]
    assert f"{told[0]:.4f} [{told[1]:.4f}, {told[2]:.4f}]" in page.text
    assert f"python -m tools.simulate quality {WORDS}" in page.text
    assert f"--scores idproxy={reported / 'run' / 'better.parquet'}" in page.text


def test_the_page_needs_no_network_and_runs_nothing(reported: Path, page: Page) -> None:
    text = (reported / "run" / "report" / PAGE).read_text()
    assert not page.of("script", "link", "img", "iframe", "object", "embed", "base")
    assert not [a for _, a in page.elements for name in a if name.startswith("on")]
    links = {value for _, a in page.elements for name, value in a.items() if name in ("href", "src", "xlink:href")}
    assert links and all(link and link.startswith("#") for link in links)
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/1999/xlink"}
    assert "@import" not in text and not re.findall(r"url\((?!#)", text)


def test_names_from_data_are_text_and_no_markup(reported: Path, page: Page) -> None:
    assert "<script" not in (reported / "run" / "report" / PAGE).read_text()
    assert f"tiny {HOSTILE}: the road" in page.text and page.text.count(HOSTILE) > 10
    assert any(HOSTILE in (svg["aria-label"] or "") for svg in page.of("svg"))


def test_a_figure_without_its_input_is_left_out_and_named_with_its_command(judged: Path, tmp_path: Path) -> None:
    page = Page(write(planted.config(judged), WORDS, folder=tmp_path / "out").read_text())
    shown = [str(section["id"]) for section in page.of("section")]
    assert shown == [name for name in FIGURES if name not in ("warm-up", "space", "funnel", "retention")]
    for command in ("tools.lifecycle", "tools.align", "tools.simulate", "tools.simulate quality"):
        assert f"python -m {command} {WORDS}" in page.text
    assert page.text.count("not run: ") == 5


def test_the_same_run_gives_the_same_page(reported: Path) -> None:
    before = (reported / "run" / "report" / PAGE).read_bytes()
    assert planted.report(reported).read_bytes() == before


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "results.json": "results.json: not JSON",
    "scores/test/part-00000.parquet": "part-00000.parquet: .*truncated",
    "prompt/mf/code/retention.parquet": "retention.parquet: .*truncated",
    "proxy/vectors/coarse.parquet": "coarse.parquet: truncated",
    "simulator/simulated/simulated.parquet": "simulated.parquet: .*truncated",
    "simulator/simulated/quality.json": "quality.json: not JSON .half written",
    "simulator/simulated/about.json": "about.json: not JSON .half written",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_half_written_input_is_named_and_the_former_report_stays(home: Path, name: str) -> None:
    before = (home / "run" / "report" / PAGE).read_bytes()
    half(home / "run" / name)
    with pytest.raises(InputError, match=BROKEN[name]) as error:
        write(planted.config(home), WORDS)
    assert "\n" not in str(error.value)
    assert (home / "run" / "report" / PAGE).read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"high": [0.7] * 6}, "row .*'system': 'base'.*: expected low <= share <= high"),
        ({"low": [float("nan")] * 6}, "row .*: expected low <= share <= high"),
        ({"step": [0.5] * 6}, "column 'step': expected int64"),
        ({"system": [1] * 6}, "column 'system': expected string"),
        ({"system": ["base"] * 5 + [None]}, "column 'system': expected string without nulls"),
    ],
)
def test_a_curve_that_is_none_is_refused(home: Path, changed: dict[str, list[object]], said: str) -> None:
    planted.retention(home / "run" / "prompt" / "mf" / "code" / "retention.parquet", **changed)
    with pytest.raises(InputError, match=f"retention.parquet: {said}"):
        write(planted.config(home), WORDS)


@pytest.mark.parametrize("wrong", [[0.5, 0.4], [0.5, 0.4, None], "high"])
def test_results_of_another_shape_are_refused(home: Path, wrong: object) -> None:
    path = home / "run" / "results.json"
    told = json.loads(path.read_text())
    told["systems"]["base"]["all"]["auc"] = wrong
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"results.json: systems.base.all.auc"):
        write(planted.config(home), WORDS)


def test_a_folder_of_something_else_is_not_touched(judged: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(InputError, match="holds something else than a report"):
        write(planted.config(judged), WORDS, folder=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "ten years"
    (judged / "run" / "results.json").rename(judged / "kept.json")
    try:
        with pytest.raises(InputError, match=r"results.json: no such results: make them with python -m tools.evaluate"):
            write(planted.config(judged), WORDS, folder=tmp_path / "out")
    finally:
        (judged / "kept.json").rename(judged / "run" / "results.json")
