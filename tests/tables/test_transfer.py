"""A bundle in object storage is the bundle that was sent there, or it is not fetched."""

from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.tables import manifest
from recsys.tables.bundle import EXPORT
from recsys.tables.transfer import download, upload
from tests.bucket import Bucket

FILES = ("dense.pt2", "parquet/item_id/part-00000.parquet", "deltas/7/manifest.json")


def bundle(folder: Path, text: str) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text} {name}")
    manifest.write(folder, EXPORT, {name: manifest.stamp(folder / name) for name in FILES}, deltas=[])
    return folder


def test_there_and_back_and_replaced(bucket: Bucket, tmp_path: Path) -> None:
    for text in ("first", "second"):
        made = bundle(tmp_path / text, text)
        bucket.asked.clear()
        assert str(upload(made, bucket.uri("bundles/one"))) == "s3://logs/bundles/one"
        written = [path for method, path, _ in bucket.asked if method in ("PUT", "POST") and not path.endswith("/")]
        assert written[-1] == "/logs/bundles/one/manifest.json"
        back = download(bucket.uri("bundles/one"), tmp_path / "back")
        for name in (*FILES, manifest.NAME):
            assert (back / name).read_bytes() == (made / name).read_bytes()


def test_what_is_not_whole_is_not_fetched(bucket: Bucket, tmp_path: Path) -> None:
    upload(bundle(tmp_path / "made", "made"), bucket.uri("bundles/damaged"))
    bucket.put(f"bundles/damaged/{FILES[1]}", b"other")
    with pytest.raises(InputError, match=FILES[1]):
        download(bucket.uri("bundles/damaged"), tmp_path / "back")
    bucket.remove(f"bundles/damaged/{FILES[1]}")
    with pytest.raises(InputError, match=r"^s3://logs/bundles/damaged: cannot be fetched: .*part-00000.parquet"):
        download(bucket.uri("bundles/damaged"), tmp_path / "back")
    with pytest.raises(InputError, match=r"^s3://logs/bundles/none: cannot be fetched"):
        download(bucket.uri("bundles/none"), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_other_files_and_damaged_bundles_stay_where_they_are(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("notes/mine.txt", b"mine")
    made = bundle(tmp_path / "made", "made")
    with pytest.raises(InputError, match=r"^s3://logs/notes: holds files but no manifest.json"):
        upload(made, bucket.uri("notes"))
    assert bucket.names("notes") == ["mine.txt"]
    (made / FILES[0]).write_text("damaged")
    with pytest.raises(InputError, match=FILES[0]):
        upload(made, bucket.uri("bundles/new"))
