"""Exported tables against the checkpoint read by torch alone, whatever the sharding and the ranks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch.distributed.checkpoint as dcp
from safetensors.numpy import load_file
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables.bundle import EXPORT
from recsys.tables.export import export
from recsys.tables.manifest import verify
from tests import tiny
from tests.tables.saved import DIM, ITEM, PART_ROWS, SHARDINGS, best, config, plain


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the manifest."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
    return {name: data for name, data in files.items() if name != "manifest.json"}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_both_formats_hold_the_stored_rows_and_their_ids(home: Path) -> None:
    run = home / "row_wise"
    told = json.loads((run / "export" / "manifest.json").read_text())
    tables = plain(run)
    assert set(told["tables"]) == set(tables) == {"user_id", "gender", "genres", "device", "item_id"}
    for name, stored in tables.items():
        id_map = IdMap.load(run / "encoder" / f"{name}.parquet")
        used = len(id_map.ids) + 1
        assert used < len(stored)
        table = pq.read_table(run / "export" / "parquet" / name)
        assert table["id"].to_pylist() == [None, *id_map.ids.to_pylist()]
        assert table["row"].to_pylist() == list(range(used))
        assert table.schema.field("vector").type == pa.list_(pa.float32(), DIM)
        np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), dtype=np.float32), stored[:used])
        parts = told["tables"][name]["parts"]
        assert [part["stop"] - part["start"] for part in parts[:-1]] == [PART_ROWS] * (len(parts) - 1)
        tensors = [load_file(run / "export" / part["safetensors"])["vector"] for part in parts]
        np.testing.assert_array_equal(np.concatenate(tensors), stored[:used])
    assert len(told["tables"]["user_id"]["parts"]) > 2


def test_the_bytes_do_not_depend_on_the_sharding_nor_on_the_ranks(home: Path) -> None:
    columns = dcp.FileSystemReader(best(home, "column_wise")).read_metadata()
    item = columns.state_dict_metadata[f"model.{ITEM}"]
    assert isinstance(item, TensorStorageMetadata)
    assert {chunk.sizes[1] for chunk in item.chunks} == {DIM // 2}
    exports = [contents(home / sharding / "export") for sharding in SHARDINGS]
    assert exports[0] == exports[1] == exports[2]
    with process_group() as ranks:
        export(config(home, "column_wise"), ranks, part_rows=PART_ROWS)
    assert contents(home / "column_wise" / "export") == exports[0]
    assert not list((home / "column_wise").glob(".export*"))


def test_the_manifest_names_the_checkpoint_and_the_config(home: Path) -> None:
    told = verify(home / "table_wise" / "export", EXPORT)
    assert (told["source"]["checkpoint"], told["source"]["step"]) == ("step-00000007", 7)
    assert told["source"]["config"]["item_sharding"] == "table_wise"
    assert told["tables"]["item_id"]["dim"] == DIM


def test_a_checkpoint_of_other_tables_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "row_wise", tmp_path / "run")
    grown = IdMap.load(tmp_path / "run" / "encoder" / "gender.parquet")
    replace(grown, capacity=99).save(tmp_path / "run" / "encoder" / "gender.parquet")
    with (
        process_group() as ranks,
        pytest.raises(InputError, match=r"table gender has .* rows, the id map .* 99"),
    ):
        export(replace(config(home, "row_wise"), run=str(tmp_path / "run")), ranks)


@pytest.mark.parametrize(
    "name",
    ["parquet/item_id/part-00001.parquet", "safetensors/user_id/part-00000.safetensors", "manifest.json"],
)
def test_verify_names_the_damaged_file(home: Path, name: str, tmp_path: Path) -> None:
    copy = shutil.copytree(home / "row_wise" / "export", tmp_path / "copy")
    path = copy / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (bytes(flipped), whole[:-3], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=name):
            verify(copy, EXPORT)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: missing"):
        verify(copy, EXPORT)
    path.write_bytes(whole)
    verify(copy, EXPORT)
    (copy / "parquet" / "item_id" / "part-00099.parquet").write_bytes(whole)
    with pytest.raises(InputError, match=r"part-00099\.parquet: not in the manifest"):
        verify(copy, EXPORT)


def test_without_a_checkpoint_it_says_so(tmp_path: Path) -> None:
    with process_group() as ranks, pytest.raises(InputError, match="no trained checkpoint"):
        export(tiny.config(tmp_path, tmp_path / "run"), ranks)
