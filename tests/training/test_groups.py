"""Groups of parameters by name: which are refused, and with what words. What they do is in `test_steps`."""

from pathlib import Path

import pytest

from recsys.config import Config
from recsys.config_train import Group, Train
from recsys.data.fit import fit
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.train import build, train
from recsys.training.groups import Rule, check, of_dense, of_table
from tests import tiny

DENSE = ["ranker.dense_arch.top._mlp.0.weight", "ranker.dense_arch.logit.bias"]


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (
            Group(pattern="item"),
            "groups.0.pattern=item: matches no parameter and no table; the nearest is item_id",
        ),
        (
            Group(pattern="*.top_mlp.*"),
            r"\*.top_mlp.\*: matches no .* nearest is ranker.dense_arch.top._mlp.0",
        ),
        (Group(pattern="*", optimizer="sgd"), "matches table item_id, which trains by row-wise Adagrad"),
    ],
)
def test_a_group_that_cannot_be_meant_is_named(group: Group, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(Train(groups=[group]), DENSE, ["item_id", "genres"])


def test_the_first_group_that_matches_counts_and_fills_the_rest_from_the_defaults() -> None:
    logit, rest = Group(pattern="*.logit.*", lr=0.0), Group(pattern="ranker.*", optimizer="sgd")
    groups = [logit, rest, Group(pattern="item_id", lr=1.0)]
    train = Train(lr=0.1, table_lr=0.2, weight_decay=0.3, groups=groups)
    check(train, DENSE, ["item_id"])
    assert [of_dense(train, name) for name in DENSE] == [Rule("sgd", 0.1, 0.3), Rule("adam", 0.0, 0.3)]
    assert (of_table(train, "item_id").lr, of_table(train, "genres").lr) == (1.0, 0.2)


def test_a_run_with_such_a_group_does_not_begin(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "data")
    made = tiny.config(path, tmp_path / "run", train={"groups": [{"pattern": "gendr"}]})
    decayed = [{"name": "gender", "of": "user", "sharding": "data_parallel"}]
    decay = {"groups": [{"pattern": "gender", "weight_decay": 0.1}]}
    other = tiny.config(path, tmp_path / "run", features=decayed, train=decay)
    with process_group() as ranks:
        for refused in (build_fitted, train):
            with pytest.raises(InputError, match=r"pattern=gendr: matches no .* the nearest is gender"):
                refused(made, ranks)
            with pytest.raises(InputError, match=r"table gender: sharding data_parallel: .*weight_decay"):
                refused(other, ranks)
    assert [each.name for each in (tmp_path / "run").iterdir()] == [".training"], "the lock alone"


def build_fitted(config: Config, ranks: Ranks) -> None:
    build(config, fit(config), ranks)
