"""A judge is known by its weights, wherever they lie."""

import shutil
from pathlib import Path

from recsys.config_simulator import Judge
from simulator.judge import digest


def test_a_judge_is_its_weights_its_adapter_and_its_precision(folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    asked = digest(Judge(name=str(folder)))
    assert digest(Judge(name=str(moved), batch_size=3)) == asked
    assert digest(Judge(name=str(folder), bf16=False)) != asked
    assert digest(Judge(name="another")) != digest(Judge(name="smollm2-135m")) != asked
    assert digest(Judge(name=str(folder), adapter=str(moved))) != asked
    with (moved / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert digest(Judge(name=str(moved))) != asked
