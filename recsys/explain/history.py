"""An item's history, from what a dataset and a run hold: content, vectors, simulated users, feedback, deltas, scores.

Other packages' results are read by the columns that they document. What is absent is said.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Config
from recsys.data.encode import ITEM
from recsys.data.ids import UNKNOWN, IdMap
from recsys.data.schema import HELD_OUT
from recsys.errors import InputError
from recsys.explain import feedback, lookup
from recsys.tables import checkpoint, log, manifest, refresh


@dataclass(frozen=True)
class Chapter:
    """One part of an item's history: its title, and lines."""

    title: str
    lines: list[str]


def history(config: Config, name: str) -> Iterator[Chapter]:
    """What is known of an item, in the order in which it came about.

    Raises:
        InputError: no such item (with the nearest there are), no dataset, or a file that is damaged.
    """
    dataset, run = Path(config.data.path), Path(config.run)
    item, told = lookup.identified(dataset, name)
    yield Chapter("content", _content(dataset, item, told))
    yield Chapter("row", _row(run, item))
    yield Chapter("vectors", list(_vectors(config, run, item)))
    yield Chapter("simulated users", list(_simulated(run, item)))
    yield Chapter("feedback", list(feedback.told(dataset, run, item)))
    yield Chapter("deltas", list(_deltas(run, item)))
    yield Chapter("scores", list(_scores(dataset, run, item)))


def _content(dataset: Path, item: pa.Scalar, told: dict[str, object]) -> list[str]:
    lines = [f"{key}: {value}" for key, value in told.items() if key != "item_id" and value not in ("", [])]
    text = "\n".join(lines)
    lines = lines or ["none: no title, text or feature"]
    lines.append(f"digest of the above: {hashlib.sha256(text.encode()).hexdigest()[:16]}")
    held = lookup.rows(dataset / HELD_OUT, item, ["group", "scored"]).to_pylist()
    lines += [f"held out as {one['group']}" + ("" if one["scored"] else ", not scored") for one in held]
    return lines


def _row(run: Path, item: pa.Scalar) -> list[str]:
    path = run / "encoder" / f"{ITEM}.parquet"
    if not path.exists():
        return [f"{run}: no trained run there"]
    ids = IdMap.load(path)
    row = int(ids.rows(pa.array([item]))[0])
    if row == UNKNOWN:
        return [f"none of its own: it is scored by the unknown row, {UNKNOWN}"]
    count = int(ids.counts[row - 1])
    return [f"row {row} of {ids.capacity}", f"{count:,} training rows" if count else "admitted after training"]


def _vectors(config: Config, run: Path, item: pa.Scalar) -> Iterator[str]:
    folder = run / "proxy" / "vectors"
    if not (folder / "coarse.parquet").exists():
        yield f"{folder}: no content proxies: tools.align makes them"
    else:
        yield from _proxies(folder, item)
    for key in ("coarse", "layers"):
        named = getattr(config.model.proxy, key)
        if named and config.model.proxy.place != "none":
            found = lookup.rows(Path(named), item, ["item_id"]).num_rows
            yield f"model.proxy.{key}={named}: {'has it' if found else 'without it'}"


def _proxies(folder: Path, item: pa.Scalar) -> Iterator[str]:
    encoder = _json(folder / "about.json").get("encoder", {})
    by = f"by {encoder.get('name')} ({encoder.get('train')}) from {encoder.get('template')!r}"
    for path, when in (
        (folder / "content.parquet", "aligned"),
        *((part, "generated") for part in sorted((folder / "generated").glob("part-*.parquet"))),
    ):
        for one in lookup.rows(path, item, ["digest"]).to_pylist() if path.exists() else ():
            yield f"proxy, {when} {lookup.written(path)} {by}, content digest {one['digest'].hex()}"
            break
    else:
        if not lookup.rows(folder / "coarse.parquet", item, ["item_id"]).num_rows:
            yield f"no proxy in {folder}: it had no content that the encoder reads, or came later"


def _simulated(run: Path, item: pa.Scalar) -> Iterator[str]:
    files = sorted((run / "simulator").glob("*/simulated.parquet"))
    if not files:
        yield f"{run / 'simulator'}: no simulation: tools.simulate makes one"
    for path in files:
        found = lookup.rows(path, item, ["user_id", "filter", "yes", "qualified"])
        if not found.num_rows:
            yield f"{path.parent.name}: not among its items"
            continue
        qualified = pc.sum(found["qualified"]).as_py()
        refining = _json(path.parent / "about.json").get("refining") or {}
        threshold = refining.get("threshold", {}).get("value")
        at = "" if threshold is None else f" at P(Yes) >= {threshold:.3f}"
        yield (
            f"{path.parent.name}, {lookup.written(path)}: {found.num_rows} candidates, {qualified} qualified{at}; "
            f"judge {refining.get('judge', 'none')}"
        )
        for one in found.sort_by([("yes", "descending")])[: lookup.SHOWN].to_pylist():
            yes = "not asked" if one["yes"] is None else f"P(Yes) {one['yes']:.3f}"
            mark = "qualified" if one["qualified"] else "not qualified"
            yield f"  user {one['user_id']}: {yes}, filter {one['filter']:.3f}, {mark}"


def _deltas(run: Path, item: pa.Scalar) -> Iterator[str]:
    newest = 0
    for each in log.every(run):
        for name in each.tables:
            where = lookup.rows(each.folder / f"{name}.parquet", item, ["row", "source", "base_version", "delta"])
            for one in where.to_pylist():
                newest = max(newest, one["delta"])
                dated = lookup.written(each.folder / manifest.NAME)
                yield (
                    f"delta {one['delta']}, {dated}: {name} row {one['row']} by {one['source']}, "
                    f"for tables {one['base_version']}"
                )
    if not newest:
        yield "none in the log has changed its rows"
    for what, version in _versions(run):
        if version is not None:
            held = "holds them" if version >= newest else f"is behind: it holds deltas up to {version}"
            yield f"in force in {what}: delta {version}" + (f", {held}" if newest else "")


def _versions(run: Path) -> Iterator[tuple[str, int]]:
    """Each place that rows are served or trained from, and the newest delta in it."""
    if checkpoint.latest(run / "checkpoints"):
        best = checkpoint.best(run / "checkpoints")
        yield str(best), checkpoint.version_of(best).delta
    if (run / "export" / manifest.NAME).exists():
        yield str(run / "export"), refresh.version_of(run / "export").delta


def _scores(dataset: Path, run: Path, item: pa.Scalar) -> Iterator[str]:
    test = lookup.numbered(dataset, "test", item, ["user_id", "label"])
    if not test.num_rows:
        yield "no test row is of this item"
        return
    sample = test[: lookup.SHOWN]
    people = zip(sample["user_id"].to_pylist(), sample["label"].to_pylist(), strict=True)
    yield f"{test.num_rows} test rows, of which: " + "; ".join(f"user {user} (label {label})" for user, label in people)
    stages = [run / "scores" / "test", *sorted(run.glob("*/**/scores.parquet"))]
    for path in stages:
        if not path.exists():
            yield f"{path}: not scored: tools.predict scores it"
            continue
        found = lookup.scores(path, sample["row_id"].combine_chunks())
        told = " ".join(f"{found[row]:.4f}" if row in found else "none" for row in sample["row_id"].to_pylist())
        yield f"{path.relative_to(run) if path.is_dir() else path.parent.relative_to(run)}: {told}"


def _json(path: Path) -> dict:
    """A file that says how something was made; nothing where there is none.

    Raises:
        InputError: it is there, but not JSON.
    """
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
