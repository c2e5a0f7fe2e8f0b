"""The schema carries what others' rankers need, in few lines, and the configs of the repo fit it."""

from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys import config, settings
from recsys.model.prompt_parameters import prompt_tables

ROOT = Path(__file__).resolve().parent.parent

CRITEO = """
run: runs/criteo
data:
  path: data/criteo
  source:
    kind: files
    interactions: {path: "day_*.parquet", columns: {label: click}}
  label: {rule: column}
  split: {rule: temporal}
  history: 0
features:
""" + "\n".join(
    [f"  - {{name: int_{k}, kind: dense, log: true}}" for k in range(13)]
    + [f"  - {{name: cat_{k}, capacity: 1000000, sharding: row_wise}}" for k in range(26)]
)
MODEL = """
model: {dim: 128, history: false, bottom: [512, 256], cross: dot, top: [1024, 1024, 512, 256]}
train: {batch_size: 8192, lr: 0.005, table_lr: 0.005, hide_ids: 0.0}
"""


def test_dlrm_on_criteo_fits_in_60_lines(tmp_path: Path) -> None:
    text = CRITEO + MODEL
    assert len(text.strip().splitlines()) <= 60
    (tmp_path / "criteo.yaml").write_text(text)
    made = settings.load(tmp_path / "criteo.yaml")
    assert [f.kind for f in made.features].count("dense") == 13 and len(made.features) == 39
    assert made.model.cross == "dot" and not made.model.history


# Pipelines, a log to generate and a cost are schemas of their own: their own tests read them.
CONFIGS = [
    path
    for path in sorted((ROOT / "configs").glob("*.yaml"))
    if {"steps", "rows_a_day", "size"}.isdisjoint(yaml.safe_load(path.read_text()))
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_of_the_repo_are_sound(path: Path) -> None:
    made = settings.load(path)
    assert made.run.startswith("runs/")
    assert made.data.path.startswith(("data/", "runs/"))
    assert set(yaml.safe_load(path.read_text())) >= {"run", "data"}


@pytest.mark.parametrize(
    "schema", [x for x in vars(config).values() if is_dataclass(x) and x.__module__.startswith(config.__name__)]
)
def test_every_field_is_documented(schema: Any) -> None:
    assert schema.__doc__ and [name for name, info in schema.__pydantic_fields__.items() if not info.description] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "idproxy").glob("*.yaml")), ids=lambda path: path.name)
def test_overlays_lie_over_every_dataset_and_change_the_slot_alone(path: Path) -> None:
    for below in ("movielens-1m", "kuairand-pure"):
        under = settings.load(ROOT / "configs" / f"{below}.yaml")
        made = settings.load(ROOT / "configs" / f"{below}.yaml", [str(path), "train.epochs=9"])
        assert made.run == f"runs/{path.stem}" and made.model.proxy.coarse and made.train.epochs == 9
        model = replace(made.model, proxy=under.model.proxy)
        assert replace(made, run=under.run, model=model, train=under.train) == under


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "promo").glob("*.yaml")), ids=lambda path: path.name)
def test_each_network_of_promo_has_a_name_and_fits_beside_both_bases(path: Path) -> None:
    for below in ("movielens-100k-leave-one-out", "movielens-1m-leave-one-out"):
        for base in ("dssm", "sasrec"):
            overlays = [f"configs/backbone/{base}.yaml", f"configs/promo/{path.name}"]
            made = settings.load(ROOT / "configs" / f"{below}.yaml", [str(ROOT / overlay) for overlay in overlays])
            assert made.prompt.name == path.stem and made.prompt.popular == made.evaluate.rare_below
            assert all(spec.dim <= 1024 for spec in prompt_tables(made.prompt.model, made.backbone.width, 9))
