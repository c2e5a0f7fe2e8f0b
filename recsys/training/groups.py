"""Which optimizer and rates a parameter trains by: the config's groups against the names of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from recsys.config_train import Group, Train
from recsys.errors import InputError
from recsys.settings import nearest

Kind = Literal["adam", "adamw", "sgd"]


@dataclass(frozen=True)
class Rule:
    """How one parameter or table trains; a table's `kind` says nothing."""

    kind: Kind
    lr: float
    weight_decay: float


def check(train: Train, dense: Sequence[str], tables: Sequence[str]) -> None:
    """Require that every group says something about this model.

    Raises:
        InputError: a pattern matches no dense parameter and no table (the nearest name is told), or gives an optimizer
            to a table.
    """
    for k, group in enumerate(train.groups):
        where = f"train.groups.{k}.pattern={group.pattern}"
        matched = [name for name in tables if fnmatchcase(name, group.pattern)]
        if matched and group.optimizer:
            raise InputError(
                f"{where}: matches table {matched[0]}, which trains by row-wise Adagrad, whose sums travel with its "
                f"rows; expected no optimizer, or a pattern of dense parameters such as {dense[0]}"
            )
        if not matched and not any(fnmatchcase(name, group.pattern) for name in dense):
            near = nearest(group.pattern, [*dense, *tables], 1)[0]
            raise InputError(f"{where}: matches no parameter and no table; the nearest is {near}")


def of_dense(train: Train, name: str) -> Rule:
    """How a dense parameter trains."""
    return _rule(train.groups, name, Rule("adam", train.lr, train.weight_decay))


def of_table(train: Train, name: str) -> Rule:
    """How a table trains."""
    return _rule(train.groups, name, Rule("adam", train.table_lr, train.table_weight_decay))


def _rule(groups: Sequence[Group], name: str, otherwise: Rule) -> Rule:
    for group in groups:
        if fnmatchcase(name, group.pattern):
            return Rule(
                group.optimizer or otherwise.kind,
                otherwise.lr if group.lr is None else group.lr,
                otherwise.weight_decay if group.weight_decay is None else group.weight_decay,
            )
    return otherwise
