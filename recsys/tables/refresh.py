"""Deltas into an exported bundle, on disk: rows on top of its parts, see `recsys.tables.overlay`."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError
from recsys.files import remove, replacing
from recsys.tables import manifest, overlay
from recsys.tables.bundle import EXPORT, PROBE, Bundle
from recsys.tables.delta import Delta
from recsys.tables.order import MAX_STALENESS, accepts, after, beyond
from recsys.tables.version import Version


def version_of(folder: Path) -> Version:
    """What the tables of a bundle are of.

    Raises:
        InputError: not a bundle.
    """
    return _origin(folder, manifest.read(folder, EXPORT))


def _origin(folder: Path, told: dict[str, Any]) -> Version:
    try:
        return Version(**told["origin"])
    except (KeyError, TypeError):
        raise InputError(f"{folder / manifest.NAME}: expected the origin of the tables") from None


def refresh(folder: Path, deltas: list[Delta], force: bool = False, stale: int = MAX_STALENESS) -> Version:
    """Add those of `deltas`, in order, that a bundle does not hold yet, all or none; its version then.

    Costs the deltas' bytes and a look at the bundle's ids; vectors stay in their files. The probe rows are scored anew
    by the bundle itself, which must have scored them as told before.

    Raises:
        InputError: a delta is damaged or not for these tables, or the bundle is damaged; the bundle is as it was.
    """
    told = manifest.read(folder, EXPORT)
    version, taken = _origin(folder, told), []
    for each in deltas:
        _require_same(folder, told, each)
        if accepts(version, each, str(folder), force or each.forced, stale):
            overlay.require_fit(folder, told, each)
            overlay.require_rows(told, each)
            version = after(version, each)
            taken.append(each)
    if not taken:
        return version
    Bundle.load(folder, verify=False, mapped=True).check()
    _sweep(folder, told)
    for each in taken:
        told = _copied(folder, told, each)
    _commit(folder, told | {"origin": asdict(version)}, f"{overlay.FOLDER}/probe-{_name(version)}.parquet")
    return version


def _sweep(folder: Path, told: dict[str, Any]) -> None:
    """Clear away what the manifest does not name."""
    kept = {folder / overlay.FOLDER / entry["name"] for entry in told["deltas"]} | {folder / told["probe"]}
    for path in (folder / overlay.FOLDER).glob("*"):
        if path not in kept:
            remove(path)


def _copied(folder: Path, told: dict[str, Any], each: Delta) -> dict[str, Any]:
    """Copy a delta into the bundle; the manifest with it, and without those that it stands for."""
    before = Version(**told["origin"])
    version, beyond_ = after(before, each), beyond(before, each)
    place = folder / overlay.FOLDER / _name(version)
    with replacing(place) as partial:
        shutil.copytree(each.folder, partial)
    old = overlay.held(folder, told)
    gone = []
    if not each.steps and not any(one.delta.steps for one in old):
        # It says of their rows what they said, or what was said later.
        gone = [one.name for one in old if each.first <= one.delta.first]
        beyond_ = each.first - 1 if gone else beyond_
    files = {name: stamp for name, stamp in told["files"].items() if (folder / name).parent.name not in gone}
    files |= {f"{overlay.FOLDER}/{place.name}/{path.name}": manifest.stamp(path) for path in sorted(place.iterdir())}
    entries = [entry for entry in told["deltas"] if entry["name"] not in gone]
    entries.append({"name": place.name, "after": beyond_})
    return told | {"deltas": entries, "files": files, "origin": asdict(version)}


def _require_same(folder: Path, told: dict[str, Any], each: Delta) -> None:
    """Refuse a delta under the number of another that the bundle holds.

    Raises:
        InputError: it has one.
    """
    for one in overlay.held(folder, told):
        same = (one.delta.first, one.delta.last, one.delta.steps) == (each.first, each.last, each.steps)
        if same and one.delta.digest != each.digest:
            raise InputError(f"{each.folder}: {folder} holds another delta {each.last}: they are of two runs")


def _commit(folder: Path, told: dict[str, Any], probe: str) -> None:
    """Score the probe rows as the bundle now does, and put the manifest in its place."""
    bundle = Bundle(folder, told, mapped=True)
    rows = bundle.probe.drop_columns("score")
    with replacing(folder / probe) as partial:
        pq.write_table(rows.append_column("score", pa.array(bundle.score(rows).tolist(), pa.float32())), partial)
    files = {name: stamp for name, stamp in told["files"].items() if name == PROBE or name != told["probe"]}
    files[probe] = manifest.stamp(folder / probe)
    body = {key: value for key, value in told.items() if key not in ("format", "version", "files")}
    manifest.write(folder, EXPORT, files, **body | {"probe": probe})


def _name(version: Version) -> str:
    return f"{version.step:08d}-{version.delta:08d}"
