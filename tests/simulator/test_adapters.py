"""LoRA adapters as PEFT writes them: merged they judge as PEFT's own model does, and what is none is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from recsys.errors import InputError
from simulator import judge
from simulator.adapters import save_merged
from tests.simulator import models
from tests.simulator.test_judge import CONTEXTS, CPU, ITEMS, PAIRS, load, one_by_one

PARTS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapter(base: Path, folder: Path) -> Path:
    """An adapter of every linear layer, with random weights."""
    torch.manual_seed(1)
    options = LoraConfig(r=2, lora_alpha=4, target_modules=PARTS, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), options).save_pretrained(str(folder))
    return folder


def test_a_merged_adapter_judges_as_peft_does(folder: Path, tmp_path: Path) -> None:
    tuned = adapter(folder, tmp_path / "adapter")
    found = load(folder, adapter=str(tuned)).score(CONTEXTS, ITEMS, PAIRS)
    by_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), str(tuned))
    expected = one_by_one(by_peft, AutoTokenizer.from_pretrained(folder), models.FILM)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(load(folder).score(CONTEXTS, ITEMS, PAIRS) - expected).max() > 0.05


@pytest.mark.parametrize(
    "changes",
    [{"hidden_size": 32}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"intermediate_size": 40}],
    ids=lambda changes: next(iter(changes.items())),
)
def test_an_adapter_of_another_base_is_refused(folder: Path, tmp_path: Path, changes: dict[str, int]) -> None:
    other = models.folder(tmp_path / "other", **changes)
    tuned = adapter(other, tmp_path / "adapter")
    with pytest.raises(
        InputError, match=r"simulator\.judge\.adapter: \S+adapter: (an adapter of|no LoRA adapter)"
    ) as one:
        judge.load(models.config(folder, adapter=str(tuned)), CPU)
    assert "\n" not in str(one.value)


def test_what_is_no_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"simulator\.judge\.adapter: \S+nowhere: no LoRA adapter .*No such file"):
        load(folder, adapter=str(tmp_path / "nowhere"))
    pickled = adapter(folder, tmp_path / "pickled")
    weights = load_file(pickled / "adapter_model.safetensors")
    (pickled / "adapter_model.safetensors").unlink()
    torch.save(weights, pickled / "adapter_model.bin")
    with pytest.raises(InputError, match=r"pickled: no LoRA adapter of this model, in safetensors"):
        load(folder, adapter=str(pickled))
    damaged = adapter(folder, tmp_path / "damaged")
    path = damaged / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"damaged: no LoRA adapter of this model, in safetensors"):
        load(folder, adapter=str(damaged))
    poisoned = adapter(folder, tmp_path / "poisoned")
    first = next(iter(weights))
    save_file({**weights, first: torch.full_like(weights[first], torch.nan)}, poisoned / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"poisoned: no LoRA adapter of this model, .*NaN"):
        load(folder, adapter=str(poisoned))


def test_a_merged_model_saved_for_servers_judges_as_the_adapter_does(folder: Path, tmp_path: Path) -> None:
    tuned = models.config(folder, adapter=str(adapter(folder, tmp_path / "adapter"))).judge
    save_merged(tuned, tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("adapter*")) and (tmp_path / "merged" / "model.safetensors").exists()
    found = load(tmp_path / "merged").score(CONTEXTS, ITEMS, PAIRS)
    np.testing.assert_allclose(found, load(folder, adapter=tuned.adapter).score(CONTEXTS, ITEMS, PAIRS), atol=1e-5)
    with pytest.raises(InputError, match=r"merged: is there already: expected the name of a new folder"):
        save_merged(tuned, tmp_path / "merged")
    with pytest.raises(InputError, match=r"^simulator\.judge\.adapter: expected the folder"):
        save_merged(models.config(folder).judge, tmp_path / "other")
