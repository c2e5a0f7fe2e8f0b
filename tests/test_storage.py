"""Files here and in object storage behave alike, and what cannot be read is named by its URI."""

from pathlib import Path

import pytest

from recsys import storage
from recsys.data.parquet import stamp
from recsys.errors import InputError
from recsys.storage import Remote
from tests.bucket import Bucket

TREE = ("a.csv", "b.csv", "b.csv.bak", "z/a.csv", "z/y/x.csv", "z-z/a.csv")


@pytest.mark.parametrize("pattern", ["", "/a.csv", "/*.csv", "/**/*.csv", "/z*/*.csv", "/*/*/x.csv", "/none/*.csv"])
def test_the_same_files_are_found_in_the_same_order(pattern: str, bucket: Bucket, tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        bucket.put(f"tree/{name}", b"x")
    here = [str(file.relative_to(tmp_path)) for file in storage.files(f"{tmp_path}{pattern}") if isinstance(file, Path)]
    there = [str(file).removeprefix("s3://logs/tree/") for file in storage.files(bucket.uri(f"tree{pattern}"))]
    assert there == here and bool(here) == ("none" not in pattern)


def test_a_uri_of_this_machine_is_a_path(tmp_path: Path) -> None:
    assert storage.at(f"file://{tmp_path}/a") == tmp_path / "a" == storage.at(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://me:secret@logs/a", "s3://logs/a: expected a URI without a password"),
        ("s4://logs/a", "s4://logs/a: Unrecognized filesystem type"),
        ("s3://logs/a?key=secret", "s3://logs/a: Unexpected query parameter in S3 URI: 'key'"),
    ],
)
def test_a_uri_that_cannot_be_is_refused_without_its_secrets(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}") as caught:
        storage.at(uri)
    assert "secret" not in str(caught.value)


def test_no_bucket_and_no_permission_name_the_uri(bucket: Bucket) -> None:
    with pytest.raises(InputError, match=r"^s3://nobody/a: cannot be listed: .*NO_SUCH_BUCKET"):
        storage.files(bucket.uri("a/*.csv", "nobody"))
    bucket.put("mine/a.csv", b"x")
    with bucket.denying("GET", "HEAD", "PUT", "POST"):
        for work in (lambda: storage.files(bucket.uri("mine/*.csv")), remote(bucket, "mine/a.csv").read_text):
            with pytest.raises(InputError, match=r"^s3://logs/mine.* cannot be .*: .*ACCESS_DENIED"):
                work()
        with pytest.raises(InputError, match=r"^s3://logs/mine/b.csv: cannot be written: .*ACCESS_DENIED"):
            remote(bucket, "mine/b.csv").write_text("b")


def test_other_bytes_of_the_same_size_and_second_have_another_stamp(bucket: Bucket) -> None:
    bucket.put("stamped", b"one")
    first = stamp(remote(bucket, "stamped"))
    assert stamp(remote(bucket, "stamped")) == first and first[0] == 3
    bucket.put("stamped", b"two")
    assert stamp(remote(bucket, "stamped")) != first


def test_a_folder_is_never_whole_while_it_is_replaced(bucket: Bucket) -> None:
    place = remote(bucket, "folder")

    def fill(text: str) -> None:
        with storage.replacing_folder(place, "last") as folder:
            assert "last" not in bucket.names("folder")
            (folder / f"{text}/part").write_text(text)
            if text == "dies":
                raise KeyboardInterrupt
            (folder / "last").write_text(text)

    fill("first")
    assert bucket.names("folder") == ["first/part", "last"] and not storage.is_free(place)
    with pytest.raises(KeyboardInterrupt):
        fill("dies")
    assert bucket.names("folder") == [storage.UNFINISHED, "dies/part"] and storage.is_free(place)
    fill("second")
    assert bucket.names("folder") == ["last", "second/part"]


def remote(bucket: Bucket, path: str) -> Remote:
    found = storage.at(bucket.uri(path))
    assert isinstance(found, Remote)
    return found


def test_a_file_system_of_fsspecs_is_one_too() -> None:
    folder = storage.at("fsspec+memory://kept/there")
    assert isinstance(folder, Remote) and str(folder) == "fsspec+memory://kept/there" and not folder.exists()
    with storage.replacing_folder(folder, "last") as place:
        storage.write_text(place / "a/b.txt", "text")
        storage.write_text(place / "last", "")
    assert [str(file) for file in storage.files("fsspec+memory://kept/there/**/*.txt")] == [f"{folder}/a/b.txt"]
    assert [file.name for file in folder.files()] == ["b.txt", "last"] and (folder / "a/b.txt").read_text() == "text"
    assert stamp(folder / "a/b.txt")[0] == 4
    with pytest.raises(FileNotFoundError):
        (folder / "none").read_text()
