"""The configs of the runs that a daily run consists of.

    <run>/day-00006/     the first model, named after the last of its days; and then one run a day
    <run>/anew-00009/    a model trained on all days up to 9, to compare with

Each is a run like any other, of the dataset in its `data/`: all tools take its config.yaml.
"""

from dataclasses import replace
from pathlib import Path

from recsys import settings
from recsys.config import Config
from recsys.config_train import Train
from recsys.data.days import Day


def first(config: Config, day: Day) -> Config:
    """Of the first model, whose last day is `day`."""
    return _at(config, day.name, config.train)


def anew(config: Config, day: Day) -> Config:
    """Of a model that is trained as the first one is, on all days up to `day`."""
    return _at(config, f"anew-{day.number:05d}", config.train)


def of_day(config: Config, day: Day) -> Config:
    """Of a day that goes on from the one before: `daily.epochs` passes at one rate, validated after each."""
    rate, train = config.daily.rate, config.train
    groups = [replace(group, lr=None if group.lr is None else group.lr * rate) for group in train.groups]
    own = replace(
        train,
        epochs=config.daily.epochs,
        evals_per_epoch=1,
        patience=config.daily.epochs,
        max_steps=0,
        lr=train.lr * rate,
        table_lr=train.table_lr * rate,
        groups=groups,
        warmup=0.0,
        decay="constant",
        keep=1,
    )
    return _at(config, day.name, own)


def begun(config: Config) -> Config:
    """Of a day, with the passes and rates that its run was begun with where there is one."""
    path = Path(config.run) / "config.yaml"
    if not path.exists():
        return config
    began = settings.load(path).train
    own = {name: getattr(began, name) for name in ("epochs", "patience", "lr", "table_lr", "groups")}
    return replace(config, train=replace(config.train, **own))


def anew_beside(made: Config) -> Path:
    """The run of the model trained anew after the day that `made` is of, if there is one."""
    run = Path(made.run)
    return run.with_name(run.name.replace("day", "anew"))


def _at(config: Config, name: str, train: Train) -> Config:
    run = Path(config.run) / name
    return replace(config, run=str(run), data=replace(config.data, path=str(run / "data")), train=train)
