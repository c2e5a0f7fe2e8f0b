"""Rows `memory` and `start`: training on 20 million rows against training on one million of them.

`memory`: peak resident bytes of `recsys.train.train`, from the check of the dataset to its end, on one rank in a
process of its own. `start`: seconds from the check to the first step, on files that have been checked and counted
before (`recsys.data.kept`; the first run reads all rows once, at the rate of `detail`).

The rows are generated ones (`recsys.generate`). The 20 million are the million's files twenty times, so that nothing
but the number of rows differs: users, items and tables are the same. The model is tiny, so that all of them are read
within minutes.
"""

import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from recsys.bench.frame import Measured, alternated
from recsys.bench.peak import peak_of_training
from recsys.bench.train import Ours
from recsys.config import Config, Data, Evaluate, Feature, Files, Label, Model, Source, Split
from recsys.config_generate import Generate
from recsys.config_train import Train
from recsys.data import kept, schema
from recsys.data.check import check
from recsys.data.fit import fit
from recsys.data.prepare import prepare
from recsys.distributed import Ranks
from recsys.files import replacing
from recsys.generate.write import generate

DAYS, ROWS_A_DAY, TIMES = 5, 250_000, 20
"""Four of the days are trained on."""
ROUNDS = 5
MEMORY_REQUIRED, START_REQUIRED = 1 / 1.1, 0.8


def measure_memory(config: Config, ranks: Ranks) -> Measured:
    """Bytes, on one rank."""
    return compare_memory(made(Path(config.data.path).parent, ROWS_A_DAY), TIMES)


def measure_start(config: Config, ranks: Ranks) -> Measured:
    """Starts a second, on one rank."""
    return compare_starts(made(Path(config.data.path).parent, ROWS_A_DAY), TIMES, ROUNDS, ranks)


def compare_memory(config: Config, times: int) -> Measured:
    """Peak bytes of `times` the rows ("ours") and of the rows; the ratio is above 1 where the former is less."""
    peaks: dict[str, dict[str, int]] = {}
    for name, one in (("ours", repeated(config, times)), ("once", config)):
        _forget(one)
        begin = time.perf_counter()
        peaks[name] = peak_of_training(one) | {"seconds": round(time.perf_counter() - begin)}
    rows, once = (peaks[name]["bytes"] for name in ("ours", "once"))
    return Measured(
        ours=rows,
        bound=once,
        ratio=once / rows,
        unit="bytes",
        required=MEMORY_REQUIRED,
        bound_is=_titled(peaks["once"]["rows"]),
        ratios=[once / rows],
        rates={name: [peak["bytes"]] for name, peak in peaks.items()},
        detail=peaks,
    )


def compare_starts(config: Config, times: int, rounds: int, ranks: Ranks) -> Measured:
    """Starts a second on `times` the rows ("ours") and on the rows. Collective over one rank."""
    contenders = {"ours": repeated(config, times), _titled(_rows(config)): config}
    detail = {}
    for name, one in contenders.items():
        _forget(one)
        detail[f"first reading, rows/s, {name}"] = _rows(one) / _start(one, ranks)
    timed = {name: partial(_start, one, ranks) for name, one in contenders.items()}
    return alternated(timed, 1, "starts/s", START_REQUIRED, rounds, detail)


def made(home: Path, rows_a_day: int) -> Config:
    """The config of a tiny ranker on a generated log below `home`, generated and prepared unless it is there."""
    logs = home / "scale-logs"
    generate(Generate(path=str(logs), days=DAYS, rows_a_day=rows_a_day, users=100_000, items=20_000, new_items=1000))
    source = Source(
        kind="files",
        licence="synthetic",
        interactions=Files(path=str(logs / "interactions"), columns={"label": "clicked"}),
        users=Files(path=str(logs / "users.parquet")),
        items=Files(path=str(logs / "items")),
    )
    split, label = Split(rule="temporal"), Label(rule="column")
    config = Config(
        run=str(home / "scale-run"),
        data=Data(path=str(home / "scale"), source=source, label=label, split=split, history=0),
        features=[Feature(name="user_id", of="user"), Feature(name="maker", of="item"), Feature(name="device")],
        model=Model(dim=4, history=False, cross="dot", bottom=[4], top=[4]),
        train=Train(batch_size=1 << 14, epochs=1, evals_per_epoch=1),
        evaluate=Evaluate(batch_size=1 << 14),
    )
    prepare(config.data)
    return config


def repeated(config: Config, times: int) -> Config:
    """The same on a dataset of each part file so many times, as links; it is made unless it is there."""
    source = Path(config.data.path)
    target = source.with_name(f"{source.name}-{times}-{schema.read_info(source).fingerprint[:8]}")
    if not target.exists():
        with replacing(target) as partial:
            _repeat(source, partial, times)
    return replace(config, run=f"{config.run}-{times}", data=replace(config.data, path=str(target)))


def _repeat(source: Path, target: Path, times: int) -> None:
    info = schema.read_info(source)
    for split in info.counts:
        folder = target / "interactions" / f"split={split}"
        folder.mkdir(parents=True)
        parts = schema.split_files(source, split) * times
        for k, path in enumerate(parts):
            os.link(path, folder / f"part-{k:05d}.parquet")
    for name in (schema.USERS, schema.ITEMS, schema.HELD_OUT, schema.SETTINGS):
        os.link(source / name, target / name)
    schema.write_info(replace(info, counts={split: rows * times for split, rows in info.counts.items()}), target)


def _forget(config: Config) -> None:
    """Leave neither a run nor what readings of the dataset have found."""
    for folder in (Path(config.run), Path(config.data.path) / kept.FOLDER):
        shutil.rmtree(folder, ignore_errors=True)


def _start(config: Config, ranks: Ranks) -> float:
    """Seconds to the first step."""
    begin = time.perf_counter()
    check(config)
    Ours(config, fit(config), ranks).run(1)
    return time.perf_counter() - begin


def _rows(config: Config) -> int:
    return sum(schema.read_info(config.data.path).counts.values())


def _titled(rows: int) -> str:
    return f"the same on {rows:,} rows"
