"""The part of the config that says how a model goes through the days of a log (`tools.daily`)."""

from dataclasses import field
from typing import Annotated

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Amount, Natural, Positive


def _command(text: str) -> str:
    try:
        text.format(config="", data="", run="")
    except (KeyError, IndexError, ValueError):
        raise ValueError(f"{text!r}: expected {{config}}, {{data}} and {{run}} as its only words in braces") from None
    return text


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Daily:
    """Continued training: the model of the days before, on each new day."""

    base: Positive = 7
    """Days that the first model is trained on, as `train` says. The days after them come one by one."""
    days: Natural = 0
    """Days to go through after those; 0: all that the log has."""
    last: bool = True
    """Go through the newest day of the log as well. False where it may not be over yet: a day that has been gone
    through and gets more rows later is refused."""
    utc_offset: Annotated[float, Field(ge=-14, le=14)] = 0.0
    """Hours that the clock is ahead of UTC where a day begins at midnight: 8 in China."""
    epochs: Positive = 1
    """Passes over a day's rows. This, `rate` and `replay` may change from day to day: one that has been begun keeps its
    own."""
    rate: Amount = 1.0
    """Height of the learning rates on a day, as a share of `train.lr` and `train.table_lr`. They do not fall within it.
    """
    replay: Amount = 0.0
    """Rows of earlier days that a day is trained on as well, as a share of its own: drawn from all of them, by
    `train.seed`."""
    never: bool = True
    """Score each day by the first model, too, which is never updated."""
    anew: Natural = 0
    """Train a model on all days so far after every so many days and after the last, to compare with; 0: none."""
    arrive: list[str] = field(default_factory=list)
    """Tools called once a day's new ids have rows, before the day is scored, such as `align generate {config} --items
    {data}`; {config} is that of the day's run, {run} its folder and {data} the day's dataset. A killed one is called
    again."""
    follow: list[str] = field(default_factory=list)
    """Tools called once a day is trained on, such as `export {config}`."""
    keep: Natural = 2
    """Newest days whose checkpoints are kept, those of models trained anew as well, besides the first model's; 0: all.
    """

    @field_validator("arrive", "follow")
    @classmethod
    def _commands(cls, commands: list[str]) -> list[str]:
        return [_command(command) for command in commands]
