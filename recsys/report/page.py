"""The page: one file of HTML with its style and its pictures in it. No script, and nothing is asked of any network.

Whatever comes from data is escaped, and the page's own policy forbids it to load or to run anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recsys.report.drawing import inline
from recsys.report.figure import Figure, NotRun
from recsys.report.palette import COLOURS
from recsys.report.source import Results

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """A number at the head of the page, and what it is."""

    number: str
    words: str


def render(
    results: Results, cards: Sequence[Card], figures: Sequence[Figure], missing: Sequence[NotRun], command: str
) -> str:
    """The page as HTML. command: what makes it."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn = [
        {
            "figure": figure,
            "panels": [Markup(inline(panel, f"{figure.name}-{k}")) for k, panel in enumerate(figure.panels)],
        }
        for figure in figures
    ]
    return environment.get_template("page.html").render(
        dataset=results.dataset,
        split=results.split,
        seeds=results.seeds,
        colours=COLOURS,
        css=Markup((_HERE / "page.css").read_text()),
        cards=cards,
        figures=drawn,
        missing=missing,
        command=command,
    )
