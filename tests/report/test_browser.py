"""The page in a real browser: as wide as the window, silent, alone, and legible to whoever reads it how."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.report.write import PAGE
from tests import browser
from tests.browser import Tab
from tests.report.planted import HOSTILE

if browser.path() is None:
    pytest.skip(f"no browser on the PATH: looked for {', '.join(browser.NAMES)}", allow_module_level=True)

SIZES = [(width, dark) for width in (360, 768, 1440) for dark in (False, True)]
ALL_OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
# Elements that reach out of the window, save those in a container of their own that scrolls.
OUTSIDE = """[...document.body.querySelectorAll('*')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1) && !one.closest('.scroll') && !one.matches('.skip');
}).map(one => one.tagName + ': ' + one.textContent.slice(0, 60))"""
# Texts of a panel that leave its picture, or lie over one another.
COLLIDING = """[...document.querySelectorAll('.panel svg')].flatMap(svg => {
  const whole = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(one => [one, one.getBoundingClientRect()]);
  const out = texts.filter(([, b]) => b.left < whole.left - 1 || b.right > whole.right + 1
    || b.top < whole.top - 1 || b.bottom > whole.bottom + 1);
  const over = texts.filter(([, a], k) => texts.slice(0, k).some(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4));
  return [...out, ...over].map(([one]) => svg.getAttribute('aria-label').slice(0, 40) + ': ' + one.textContent);
})"""
# Contrast of every text with its ground, the least of all.
CONTRAST = """Math.min(...[...document.querySelectorAll('body *')].filter(one =>
  [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()) && one.getClientRects().length
).map(one => {
  const part = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const style = getComputedStyle(one), text = part(one instanceof SVGElement ? style.fill : style.color);
  let ground = one;
  while (ground && part(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
  const ends = [light(text), light(part(getComputedStyle(ground || document.documentElement).backgroundColor))];
  return (Math.max(...ends) + 0.05) / (Math.min(...ends) + 0.05);
}))"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser.tab() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(reported: Path) -> Path:
    return reported / "run" / "report" / PAGE


@pytest.mark.parametrize(("width", "dark"), SIZES)
def test_it_fits_is_silent_and_asks_for_nothing(tab: Tab, page: Path, width: int, dark: bool) -> None:
    tab.open(page, width, dark)
    tab.run(ALL_OPEN)
    assert tab.run("document.documentElement.scrollWidth") == tab.run("innerWidth") == width
    assert tab.run(OUTSIDE) == []
    assert tab.run(COLLIDING) == []
    assert tab.run(CONTRAST) >= 4.5
    told = [event for event in tab.events if event["method"] in SPOKEN]
    asked = [event["params"]["request"]["url"] for event in tab.events if event["method"] == ASKED]
    assert told == [] and asked == [page.resolve().as_uri()]


SPOKEN = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
ASKED = "Network.requestWillBeSent"


def test_what_is_silent_would_have_been_heard(tab: Tab, tmp_path: Path) -> None:
    loud = tmp_path / "loud.html"
    loud.write_text("<script>console.error('heard')</script><img src=absent.png><p style='width: 900px'>wide")
    tab.open(loud, 360)
    methods = [event["method"] for event in tab.events]
    assert "Runtime.consoleAPICalled" in methods and "Log.entryAdded" in methods and methods.count(ASKED) == 2
    assert tab.run("document.documentElement.scrollWidth") > 360 and len(tab.run(OUTSIDE)) == 1


def test_dark_paper_is_dark(tab: Tab, page: Path) -> None:
    grounds = []
    for dark in (False, True):
        tab.open(page, 1440, dark)
        grounds.append(tab.run("getComputedStyle(document.documentElement).backgroundColor"))
    assert grounds == ["rgb(255, 254, 252)", "rgb(20, 24, 30)"]


def test_figures_are_told_to_those_who_do_not_see_them(tab: Tab, page: Path) -> None:
    tab.open(page, 1440)
    nodes = tab.ask("Accessibility.getFullAXTree")["nodes"]
    named = {
        role: [node for node in nodes if node.get("role", {}).get("value") == role and not node.get("ignored")]
        for role in ("figure", "image")
    }
    assert len(named["figure"]) == tab.run("document.querySelectorAll('figure').length") > 8
    assert len(named["image"]) == tab.run("document.querySelectorAll('.panel svg').length") > 15
    for node in named["figure"]:
        assert len(node["name"]["value"]) > 5 and any(sign.isdigit() for sign in node["description"]["value"])
    for node in named["image"]:
        assert len(node["name"]["value"]) > 20
    assert any(HOSTILE in node["name"]["value"] for node in named["image"])


def test_a_name_from_data_runs_nothing(tab: Tab, page: Path) -> None:
    tab.open(page, 360)
    assert tab.run("document.scripts.length") == 0
    assert tab.run("document.body.innerText").count(HOSTILE) > 2
