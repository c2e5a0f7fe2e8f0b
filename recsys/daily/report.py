"""Tables of a daily run's results, in Markdown: each day ahead, and what is kept of the first days."""

from typing import Any

from recsys.daily.loop import ANEW, NEVER
from recsys.daily.measure import OURS
from recsys.evaluate.report import TOO_FEW


def markdown(results: dict[str, Any]) -> str:
    """One line a day, with 95 % intervals."""
    return f"{ahead(results)}\n\n{kept(results)}"


def ahead(results: dict[str, Any]) -> str:
    """AUC of each day by the model of the days before, of new and of old items, and what updating has gained."""
    lines = _head("day", "rows", "of new items", "AUC ahead", "new items", "old items", f"less {NEVER}", f"less {ANEW}")
    for day in results["days"]:
        every, new, old = (day["ahead"][segment] for segment in ("all", "new", "old"))
        cells = [_cell(found, OURS, ".4f") for found in (every, new, old)]
        cells += [_cell(every, f"{OURS} - {name}", "+.4f") for name in (NEVER, ANEW)]
        lines.append(f"| {day['day']} | {every['rows']:,} | {new['rows']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kept(results: dict[str, Any]) -> str:
    """AUC of rows held back from the first days, after each day; `gone` are those of items not trained on since."""
    lines = _head("after day", "rows", "AUC kept", f"less {NEVER}", f"less {ANEW}", "rows, gone", f"gone, less {NEVER}")
    for day in results["days"]:
        if not day["trained"]:
            lines.append(f"| {day['day']} | not trained on: {day['lacks']} |" + " |" * 5)
            continue
        every, gone = day["kept"]["all"], day["kept"]["gone"]
        cells = [_cell(every, OURS, ".4f"), *(_cell(every, f"{OURS} - {name}", "+.4f") for name in (NEVER, ANEW))]
        rest = _cell(gone, f"{OURS} - {NEVER}", "+.4f")
        lines.append(f"| {day['day']} | {every['rows']:,} | " + " | ".join(cells) + f" | {gone['rows']:,} | {rest} |")
    return "\n".join(lines)


def _head(*titles: str) -> list[str]:
    return ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]


def _cell(found: dict[str, Any], name: str, form: str) -> str:
    if name in found:
        value, low, high = (format(number, form) for number in found[name])
        return f"{value} [{low}, {high}]"
    return TOO_FEW if OURS not in found else ""
