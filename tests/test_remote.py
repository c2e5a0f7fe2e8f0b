"""From a log in a bucket over a dataset in a bucket to scores: bit for bit what the same files here come to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import torch

from recsys import settings
from recsys.config import Config
from recsys.data import prepare, reader, schema
from recsys.data.encode import Encoder
from recsys.data.fit import fit
from recsys.data.parquet import opened
from recsys.data.pieces import Piece
from recsys.data.reader import Reader
from recsys.data.stored import Footers, read_group
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.evaluate import pointwise
from recsys.floor.systems import floor
from recsys.predict import predict
from recsys.tables import checkpoint
from recsys.train import train
from tests.bucket import Bucket
from tools import report

CONFIG = """
data:
  source: {kind: files}
  label: {rule: column}
  split: {rule: exposure, cut: time, min_rows: 5, exposures: [0, 2]}
  history: 5
  row_group: 128
features: [{name: user_id, of: user}, {name: tags, of: item, kind: multi}, {name: device}]
model: {dim: 8, attention: [8], bottom: [8], top: [16], cross_rank: 4}
train: {batch_size: 32, shuffle_rows: 256, epochs: 1, evals_per_epoch: 4}
evaluate: {batch_size: 64, min_rows: 1, min_users: 1, replicates: 5}
floor: {prior: 1.0, max_passes: 5}
"""
TRAIN = "interactions/split=train/part-00000.parquet"


@dataclass(frozen=True)
class Both:
    """The same logs, and what was made of them, here and in the bucket."""

    home: Path
    here: Config
    there: Config


def write_logs(folder: Path) -> None:
    """Two CSV files of clicks and a Parquet file of items."""
    draw, rows = np.random.default_rng(0), 3000
    clicks = pa.table(
        {
            "user_id": [f"{k:03d}" for k in draw.integers(40, size=rows)],
            "item_id": [f"i{k}" for k in draw.integers(30, size=rows)],
            "timestamp": np.sort(draw.integers(100_000, size=rows)),
            "label": draw.integers(2, size=rows),
            "device": [("tv", "web")[k] for k in draw.integers(2, size=rows)],
        }
    )
    for name, part in (("a", clicks[: rows // 2]), ("b", clicks[rows // 2 :])):
        csv.write_csv(part, folder / f"{name}.csv")
    items = {"item_id": [f"i{k}" for k in range(30)], "tags": [["all", f"t{k % 3}"] for k in range(30)]}
    pq.write_table(pa.table(items), folder / "items.parquet")


def config(home: Path, name: str, data: str, logs: str, items: str) -> Config:
    """Of a run in `home`."""
    (home / "config.yaml").write_text(CONFIG)
    given = {"run": home / name, "data.path": data, "data.source.interactions.path": logs}
    words = [f"{key}={value}" for key, value in given.items()]
    return settings.load(home / "config.yaml", [*words, f"data.source.items.path={items}"])


@pytest.fixture(scope="module")
def both(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Both:
    home = tmp_path_factory.mktemp("remote")
    (home / "raw").mkdir()
    write_logs(home / "raw")
    for file in (home / "raw").iterdir():
        bucket.put(f"raw/{file.name}", file.read_bytes())
    here = config(home, "here", f"{home}/data", f"{home}/raw/*.csv", f"{home}/raw/items.parquet")
    uris = (bucket.uri(path) for path in ("data", "raw/*.csv", "raw/items.parquet"))
    return Both(home, here, config(home, "there", *uris))


@pytest.fixture(scope="module")
def prepared(both: Both) -> Both:
    assert prepare.prepare(both.here.data)[1] and prepare.prepare(both.there.data)[1]
    return both


@pytest.fixture(scope="module")
def trained(prepared: Both, bucket: Bucket) -> Both:
    """Here without a break; there an object is gone in the middle of the epoch, and the run is begun again."""
    with process_group() as ranks:
        train(prepared.here, ranks)
        whole = bucket.get(f"data/{TRAIN}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "read_group", vanishing(bucket, 8))
            with pytest.raises(
                InputError, match=rf"^s3://logs/data/{TRAIN}: row group \d+: cannot be read: .*not exist"
            ):
                train(prepared.there, ranks)
        assert 0 < len(checkpoint.found(Path(prepared.there.run) / "checkpoints")) < 4
        bucket.put(f"data/{TRAIN}", whole)
        train(prepared.there, ranks)
        for made in (prepared.here, prepared.there):
            predict(made, "test", ranks)
    return prepared


def vanishing(bucket: Bucket, count: int) -> Callable[[Piece, list[str], Footers], pa.Table]:
    """`read_group`, which finds the training rows gone from the so many-th row group of theirs on."""
    left = [count]

    def read(piece: Piece, columns: list[str], known: Footers) -> pa.Table:
        if str(piece.path).endswith(TRAIN):
            left[0] -= 1
            if not left[0]:
                bucket.remove(f"data/{TRAIN}")
        return read_group(piece, columns, known)

    return read


def test_the_same_dataset_is_written(prepared: Both, bucket: Bucket) -> None:
    names = bucket.names("data")
    here = Path(prepared.here.data.path)
    assert names == sorted(str(file.relative_to(here)) for file in here.rglob("*") if file.is_file())
    for name in names:
        if name.endswith(".parquet"):
            assert pa.BufferReader(bucket.get(f"data/{name}")).read() == (here / name).read_bytes(), name
    one, other = (schema.read_info(made.data.path) for made in (prepared.here, prepared.there))
    assert replace(one, fingerprint="", source="") == replace(other, fingerprint="", source="")
    assert other.source == "s3://logs/raw/*.csv"
    assert not prepare.prepare(prepared.there.data)[1], "from the same objects, nothing is to do"


def test_the_manifest_is_written_last_and_half_a_dataset_is_not_read(
    prepared: Both, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(prepared.there.data, path=bucket.uri("other"))
    bucket.asked.clear()
    prepare.prepare(data)
    written = [path for method, path, _ in bucket.asked if method in ("PUT", "POST") and not path.endswith("/")]
    assert written[-1] == "/logs/other/dataset.yaml"
    with monkeypatch.context() as patch, bucket.denying("PUT"), pytest.raises(InputError, match=r"^s3://logs/other"):
        patch.setattr(prepare, "MADE_BY", prepare.MADE_BY + 1)
        prepare.prepare(data)
    assert schema.read_info(data.path).fingerprint == prepare.fingerprint(data), "what it could not touch is whole"
    with monkeypatch.context() as patch, pytest.raises(InputError, match="killed"):
        patch.setattr(prepare, "MADE_BY", prepare.MADE_BY + 1)
        patch.setattr(schema, "write_settings", killed)
        prepare.prepare(data)
    with pytest.raises(InputError, match=r"^s3://logs/other/dataset.yaml: no such file; make the dataset"):
        schema.read_info(data.path)
    assert prepare.prepare(data)[1] and bucket.names("other") == bucket.names("data")


def killed(*_: object) -> None:
    raise InputError("killed")


def test_the_same_weights_and_scores_bit_for_bit(trained: Both) -> None:
    folders = [Path(made.run) for made in (trained.here, trained.there)]
    best = [checkpoint.best(folder / "checkpoints") for folder in folders]
    assert best[0].name == best[1].name
    names = sorted(checkpoint.stored_tensors(best[0]))
    one, other = (checkpoint.read(each, names) for each in best)
    assert names and all(torch.equal(one[name], other[name]) for name in names)
    scores = [pq.read_table(folder / "scores" / "test") for folder in folders]
    assert scores[0].num_rows > 1000 and scores[0].equals(scores[1])


def test_evaluation_and_the_floor_say_the_same(trained: Both) -> None:
    found = []
    for made in (trained.here, trained.there):
        results = pointwise.evaluate(made)
        with process_group() as ranks:
            tuned = floor(made, "finetune", 2, ranks)
        found.append((results["systems"], pq.read_table(tuned / "scores.parquet")))
    assert found[0][0] == found[1][0] and found[0][1].equals(found[1][1])


def test_nothing_of_it_stays_here_but_what_a_reading_found(trained: Both, bucket: Bucket) -> None:
    run = Path(trained.there.run)
    assert not [file for file in run.rglob("*.parquet") if "history" in pq.read_schema(file).names]
    assert {path.name.split("-")[0] for path in (run / ".kept").iterdir()} == {"sound", "statistics"}
    bucket.asked.clear()
    fit(trained.there)
    assert [path for method, path, _ in bucket.asked if method == "GET" and path.endswith(TRAIN)] == []


def test_a_row_group_is_read_without_the_others(bucket: Bucket, tmp_path: Path) -> None:
    wide = pa.table({"item_id": np.random.default_rng(0).integers(1 << 60, size=400_000)})
    pq.write_table(wide, tmp_path / "wide.parquet", row_group_size=40_000)
    whole = (tmp_path / "wide.parquet").read_bytes()
    bucket.put("wide/interactions/split=train/part-00000.parquet", whole)
    [path] = schema.split_files(bucket.uri("wide"), "train")
    bucket.asked.clear()
    with opened(path) as file:
        assert file.read_row_group(3).equals(wide[120_000:160_000])
    assert sum(size for *_, size in bucket.asked) < len(whole) / 4


def test_an_object_that_is_another_by_now_is_noticed(trained: Both, bucket: Bucket) -> None:
    encoder = Encoder.load(trained.there, Path(trained.there.run) / "encoder")
    rows = iter_rows(encoder)
    next(rows)
    name = "interactions/split=test/part-00000.parquet"
    whole = bucket.get(f"data/{name}")
    table = pq.read_table(pa.BufferReader(whole))
    sink = pa.BufferOutputStream()
    pq.write_table(table[::-1], sink, row_group_size=128, compression="zstd", store_schema=False)
    bucket.put(f"data/{name}", sink.getvalue().to_pybytes())
    try:
        with pytest.raises(InputError, match=rf"^s3://logs/data/{name}: row group \d+: .*it has been written since"):
            list(rows)
    finally:
        bucket.put(f"data/{name}", whole)


def iter_rows(encoder: Encoder) -> Iterator[object]:
    return Reader(encoder, "test", 64, shuffle=128).epoch()


def test_what_cannot_be_remote_is_refused_by_name(both: Both, bucket: Bucket) -> None:
    words = [str(both.home / "config.yaml"), f"data.path={bucket.uri('data')}"]
    with pytest.raises(InputError, match=r"^data.path=s3://logs/data: expected a local or shared file system"):
        report.main(words)
    with pytest.raises(InputError, match=r"run: .*'s3://logs/run': expected a path on a local or shared file system"):
        settings.load(words[0], ["run=s3://logs/run"])
    missing = replace(both.there.data, path=bucket.uri("data", "nobody"))
    with pytest.raises(InputError, match=r"^s3://nobody/data.* cannot be listed: .*NO_SUCH_BUCKET"):
        prepare.prepare(missing)
    with pytest.raises(InputError, match=r"data.source.interactions.path: s3://logs/raw/none/\*.csv: no .parquet"):
        prepare.prepare(config(both.home, "none", "none", bucket.uri("raw/none/*.csv"), bucket.uri("raw/b")).data)
