"""A run folder refuses another config or dataset, and lets a resume change what it may."""

from dataclasses import replace
from pathlib import Path

import pytest

from recsys.data.schema import read_info, write_info
from recsys.errors import InputError
from recsys.runs import begin, require
from tests import tiny


def test_a_run_keeps_its_config(tmp_path: Path) -> None:
    data = tiny.write(tmp_path / "data")
    config = tiny.config(data, tmp_path / "run")
    with pytest.raises(InputError, match="no run there"):
        require(config)
    begin(config)
    begin(replace(config, train=replace(config.train, batch_size=8), evaluate=replace(config.evaluate, replicates=1)))
    with pytest.raises(InputError, match=r"begun with model.dim=8, not 16"):
        begin(replace(config, model=replace(config.model, dim=16)))
    with pytest.raises(InputError, match=r"begun with features.5.capacity=0, not None"):
        begin(replace(config, features=config.features[:-1]))


def test_a_run_keeps_its_dataset(tmp_path: Path) -> None:
    data = tiny.write(tmp_path / "data")
    config = tiny.config(data, tmp_path / "run")
    begin(config)
    write_info(replace(read_info(data), fingerprint="another"), data)
    with pytest.raises(InputError, match="begun on another dataset"):
        begin(config)
