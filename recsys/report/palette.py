"""Colours on light and on dark paper, and how a system is drawn: told apart by marker and dashes too.

The five systems differ to colour-blind eyes too, by some 20 in CIELAB, and stand out from the paper by 3 to 1, texts
by 4.5 to 1.
"""

from dataclasses import dataclass

# (on light paper, on dark paper); a picture is drawn with the first, and the page exchanges them.
COLOURS = {
    "ink": ("#1c232e", "#e9edf2"),
    "muted": ("#566071", "#a6b0bf"),
    "line": ("#d8dde4", "#39424f"),
    "paper": ("#fffefc", "#14181e"),
    "soft": ("#f4f2ee", "#1d232b"),
    "accent": ("#b53c00", "#ff9259"),
    "slate": ("#818d9c", "#76808d"),
    "blue": ("#00417a", "#72c0ff"),
    "purple": ("#ba36ba", "#c65fbe"),
    "green": ("#00695a", "#a5f2d8"),
    "ochre": ("#8a6500", "#e5b63a"),
    "indigo": ("#4a4fb5", "#a5a8ff"),
}
INK, MUTED, LINE, PAPER = (COLOURS[name][0] for name in ("ink", "muted", "line", "paper"))
ACCENT = COLOURS["accent"][0]

Dashes = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Style:
    """How one system looks in every figure."""

    colour: str
    """Of `COLOURS`, on light paper."""
    marker: str
    dashes: Dashes = "-"


_KNOWN = {
    "base": Style(COLOURS["slate"][0], "o", (0, (1, 1))),
    "idproxy": Style(COLOURS["blue"][0], "s", (0, (5, 1))),
    "simulated": Style(COLOURS["purple"][0], "^", (0, (3, 1, 1, 1))),
    "promo": Style(COLOURS["green"][0], "D", (0, (7, 2))),
    "road": Style(COLOURS["accent"][0], "P", "-"),
}
_COLOURS = [COLOURS[name][0] for name in ("ochre", "indigo", "ink", "green", "purple", "blue", "slate")]
_MARKERS = ("v", "X", "p", "h", "<", ">", "d", "8")
_DASHES: tuple[Dashes, ...] = ("-", (0, (2, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (8, 1)))


def styles(names: list[str]) -> dict[str, Style]:
    """A style for each name, the same for the systems that every report has."""
    others = [name for name in dict.fromkeys(names) if name not in _KNOWN]
    spare = {
        name: Style(_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)], _DASHES[k % len(_DASHES)])
        for k, name in enumerate(others)
    }
    return {name: _KNOWN.get(name) or spare[name] for name in names}
