"""A DSSM or SASRec on a circle of items, and a config for a small network beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recsys.backbones.train import train
from recsys.config import Config
from recsys.config_backbone import Kind
from recsys.config_prompt import Prompt
from recsys.config_prompt_model import PromptModel, Tuning
from recsys.distributed import Ranks
from tests.backbones import walks

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, 1, CPU)
MODEL = PromptModel(code=4, hidden=4, last=4, head=[8])


def config(data: Path, run: Path, kind: Kind = "dssm", **tuning: Any) -> Config:
    """With lists of at most three users."""
    options = {"lr": 0.01, "batch": 128, "epochs": 2, "patience": 5, **tuning}
    prompt = Prompt(k=3, even_lengths=False, popular=20, model=MODEL, tuning=Tuning(**options))
    return replace(walks.config(data, run, kind, epochs=4), prompt=prompt)


def begin(home: Path, kind: Kind = "dssm") -> Config:
    """Prepare the walks and train the base; returns the config."""
    made = config(walks.write(home / "data", walks.rows()), home / "run", kind)
    train(made, ALONE)
    return made
