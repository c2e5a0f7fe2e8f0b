"""What a reading of a dataset has found is kept for files that stay as they are, and for no others."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.data.check import check
from recsys.data.fit import fit
from recsys.data.schema import split_files
from recsys.errors import InputError
from tests import tiny


def damage(file: Path) -> None:
    """Other bytes of the same size and time, which nobody sees who does not read them."""
    stat, data = file.stat(), bytearray(file.read_bytes())
    data[4:200] = bytes(196)
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_dataset_is_checked_once_for_the_same_features(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    info = check(config)
    damaged = split_files(tmp_path / "data", "train")[0]
    damage(damaged)
    assert check(config) == info
    fewer = tiny.config(tmp_path / "data", tmp_path / "run", features=[{"name": "user_id", "of": "user"}])
    with pytest.raises(InputError, match=r"part-00000\.parquet: row group 0"):
        check(fewer)
    damaged.touch()
    with pytest.raises(InputError, match=r"part-00000\.parquet: row group 0"):
        check(config)


def test_statistics_are_read_again_once_a_file_has_come(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    first = fit(config)
    files = split_files(tmp_path / "data", "train")
    damage(files[0])
    again = fit(config)
    assert again.lineage == first.lineage and again.scalers == first.scalers
    for name, ids in first.maps.items():
        assert again.maps[name].ids.equals(ids.ids) and again.maps[name].counts.tolist() == ids.counts.tolist()
    tiny.write(tmp_path / "data")
    with pq.ParquetFile(files[1]) as file:
        more = file.read()
    pq.write_table(more, files[1].with_name("part-00002.parquet"))
    assert fit(config).maps["item_id"].counts.sum() == 203 + more.num_rows


def test_statistics_that_are_damaged_are_counted_anew(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    first = fit(config)
    (folder,) = (tmp_path / "data" / ".kept").glob("statistics-*")
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    for name in ("moments.json", "item_id.parquet"):
        (folder / name).write_bytes(whole[name][:7])
        assert fit(config).maps["item_id"].counts.tolist() == first.maps["item_id"].counts.tolist()
        assert (folder / name).stat().st_size == len(whole[name])
    (folder / "moments.json").unlink()
    assert fit(config).scalers == first.scalers


def test_a_dataset_that_cannot_be_written_to_is_read_each_time(tmp_path: Path) -> None:
    config = tiny.config(tiny.write(tmp_path / "data"), tmp_path / "run")
    (tmp_path / "data" / ".kept").write_text("in the way of the folder")
    first = check(config), fit(config).lineage
    assert (check(config), fit(config).lineage) == first
    damage(split_files(tmp_path / "data", "train")[0])
    with pytest.raises(InputError, match="damaged"):
        check(config)
