"""The bench's rows of the judge, on a tiny model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recsys.config_simulator import Prompt
from simulator import bench, prompts
from tests.simulator.models import config


@pytest.mark.parametrize("items", [1, 3])
def test_the_rows_measure_asking_and_the_bare_forward(folder: Path, items: int) -> None:
    options = config(folder, Prompt(tokens=12, history_tokens=8))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    row = bench.compare(model.eval(), tokenizer, options, users=5, items=items, rounds=2, required=0.9)
    assert set(row.rates) == {"ours", "forward"} and [len(each) for each in row.rates.values()] == [2, 2]
    assert row.detail["items a user"] == items and row.detail["tokens a pair"] > 100
    assert torch.is_grad_enabled()


def test_the_bound_reads_what_the_judge_is_asked(folder: Path) -> None:
    options, tokenizer = config(folder), AutoTokenizer.from_pretrained(folder)
    words = prompts.wording(tokenizer, options.prompt)
    contexts, pairs, texts = bench._draw(users=3, items=2)
    found = bench._questions(tokenizer, words, options, contexts, pairs, texts)
    for pair, ids in zip(pairs, found, strict=True):
        told = tokenizer.decode(ids)
        assert told.count('", "') == bench.HISTORY - 1 and f'the film "{texts[pair[1]]}" by answering' in told
