"""YAML and overrides into the schema: what is refused names the key, the nearest one, and what was expected."""

from pathlib import Path

import pytest
import yaml

from recsys import settings
from recsys.config import Config
from recsys.errors import InputError

TEXT = """
run: runs/x
data: {path: data/x, history: 20}
features:
  - {name: user_id, of: user}
  - {name: age, of: user, kind: dense}
train: {lr: 0.5}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "x.yaml"
    file.write_text(TEXT)
    return file


def test_defaults_file_and_overrides_in_that_order(path: Path) -> None:
    made = settings.load(path, ["train.epochs=7", "train.lr=1e-3", "model.bottom=[4, 4]", "data.source.path=null"])
    assert (made.train.epochs, made.train.lr, made.data.history) == (7, 0.001, 20)
    assert made.model.bottom == [4, 4] and made.train.batch_size == Config().train.batch_size


def test_overrides_reach_into_lists_and_absent_sections(path: Path) -> None:
    made = settings.load(path, ["features.1.log=true", "features.0.capacity=99", "evaluate.seed=3", "model.dim=16"])
    assert made.features[1].log and made.features[0].capacity == 99
    assert made.evaluate.seed == 3 and made.model.dim == 16


def test_a_file_over_another_wins_key_by_key(path: Path, tmp_path: Path) -> None:
    (tmp_path / "over.yaml").write_text("data: {history: 7}\nfeatures: [{name: zip3, of: user}]\n")
    made = settings.load(path, ["train.epochs=7", "data.path=mine", str(tmp_path / "over.yaml"), "data.row_group=9"])
    assert (made.data.path, made.data.history, made.data.row_group) == ("mine", 7, 9)
    assert [feature.name for feature in made.features] == ["zip3"] and (made.train.epochs, made.train.lr) == (7, 0.5)
    (tmp_path / "over.yaml").write_text("data: {histroy: 7}\n")
    with pytest.raises(InputError, match=r"x\.yaml .*over\.yaml: unknown key 'data\.histroy'; did you mean 'history'"):
        settings.load(path, [str(tmp_path / "over.yaml")])
    with pytest.raises(InputError, match=r"absent\.yaml: no such config file"):
        settings.load(path, ["absent.yaml"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=7", "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("trian.epochs=7", "unknown key 'trian'; did you mean 'train'?"),
        ("features.0.capasity=7", "unknown key 'features.0.capasity'; did you mean 'capacity'?"),
        ("data.split.rul=temporal", "unknown key 'data.split.rul'; did you mean 'rule'?"),
        ("data.source.interactions={path: x, columnz: {}}", "did you mean 'columns'?"),
        ("train.epochs=many", "train.epochs: "),
        ("train.epochs=1.5", "train.epochs: "),
        ("features.0.kind=sparse", "features.0.kind: Input should be 'category', 'multi' or 'dense', got 'sparse'"),
        ("model.cross=fm", "model.cross: Input should be 'dot' or 'dcn', got 'fm'"),
        ("item_sharding=whole", "item_sharding: "),
        ("model.bottom=8", "model.bottom: "),
        ("features.7.name=x", "expected an index from 0 to 1, got '7'"),
        ("features.x.name=x", "expected an index from 0 to 1, got 'x'"),
        ("features.2=x", "expected an index from 0 to 1, got '2'"),
        ("run.path=x", "run has no keys below it"),
        ("run.path.deep=x", "has no keys below it"),
        ("train.lr", "expected key=value"),
        ("=3", "expected key=value"),
        ("train.lr=[1", "'[1' is not a YAML value"),
        ("features.0={of: user}", "features.0.name: "),
        ("features.1.name=user_id", "features: 'user_id' is named twice; a name belongs to one column, of one owner"),
        ("features.1.name=../age", "features.1.name: '../age': expected a column name without a path separator"),
        ("features.1.name=a\\b", "features.1.name: 'a\\\\b': expected a column name without a path separator"),
        ("features.1.name=''", "features.1.name: '': expected a column name"),
        ("features.1.name=history", "features.1.name: 'history' is read by model.history"),
    ],
)
def test_a_bad_override_is_one_clear_error(path: Path, override: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        settings.load(path, [override])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "data.split.new_share=0",
        "data.split.new_share=1",
        "data.split.valid_share=-0.1",
        "data.split.test_share=1.1",
        "data.split.exposures=[0, -1]",
        "data.label.negatives=0",
        "data.history=-1",
        "data.row_group=0",
        "features.0.capacity=-1",
        "item_capacity=-1",
        "model.dim=5",
        "model.dim=0",
        "model.attention=[]",
        "model.top=[]",
        "model.top=[8, 0]",
        "model.bottom=[-4]",
        "model.heads=0",
        "model.cross_layers=0",
        "model.dropout=1",
        "model.spare=-1",
        "train.batch_size=0",
        "train.epochs=0",
        "train.evals_per_epoch=0",
        "train.lr=-0.1",
        "train.table_lr=.nan",
        "train.hide_ids=1.5",
        "train.shuffle_rows=-1",
        "train.patience=0",
        "train.keep=0",
        "train.max_steps=-1",
        "evaluate.replicates=0",
        "evaluate.batch_size=0",
    ],
)
def test_a_value_out_of_range_is_refused_by_key(path: Path, override: str) -> None:
    with pytest.raises(InputError) as caught:
        settings.load(path, [override])
    assert str(caught.value).startswith(f"{path}: {override.split('=')[0]}") and "\n" not in str(caught.value)


def test_every_problem_of_a_file_is_named(path: Path) -> None:
    path.write_text(TEXT + "modle: {}\nevaluate: {replicates: x}\n")
    with pytest.raises(InputError) as caught:
        settings.load(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 and all(line.startswith(f"{path}: ") for line in lines)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml: no such config file"):
        settings.load(tmp_path / "none.yaml")
    file = tmp_path / "x.yaml"
    for text, said in (("a: [1", "not YAML"), ("[1, 2]", "expected a mapping of keys, found list")):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            settings.load(file)
    file.write_text("")
    assert settings.load(file) == Config()
    with pytest.raises(InputError, match=str(tmp_path)):
        settings.load(tmp_path)
    file.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match=r"x.yaml"):
        settings.load(file)


def test_the_resolved_config_is_written_whole_and_reads_back(path: Path, tmp_path: Path) -> None:
    made = settings.load(path, ["features.1.log=true", "data.source.kind=files", "data.source.interactions.path=x.csv"])
    settings.dump(made, tmp_path / "run" / "config.yaml")
    assert settings.load(tmp_path / "run" / "config.yaml") == made
    tree = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert tree["train"]["table_lr"] == Config().train.table_lr and tree["features"][1]["log"] is True


def test_help_names_every_key_once() -> None:
    lines = list(settings.describe())
    keys = [line.split(" = ")[0].strip() for line in lines]
    assert len(keys) == len(set(keys)) and {"train.table_lr", "data.split.rule", "model.dim", "run"} <= set(keys)
    assert "  train.table_lr = 0.05  # Row-wise Adagrad, fused into the tables' backward." in lines
