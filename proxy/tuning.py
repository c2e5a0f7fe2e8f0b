"""Which weights of an encoder train: low-rank adapters (LoRA, by PEFT), all of them, or none."""

from typing import Any

import torch
from torch import Tensor, nn

from recsys.config_proxy import ContentEncoder


class TokenRows(nn.Module):
    """A token embedding with some rows of its own for new tokens, which train while the others do not.

    PEFT's own trainable tokens copy the whole embedding at each forward, and resizing it would train or store all of
    it. A new row starts at the mean of the old ones plus noise of their deviation, the same in every process.

    Args:
        base: the model's embedding [N, H].
        ids: the K new tokens, whatever N is.
    """

    def __init__(self, base: nn.Embedding, ids: tuple[int, ...]) -> None:
        super().__init__()
        self.base = base
        self.ids: Tensor
        self.register_buffer("ids", torch.tensor(ids), persistent=False)
        weight = base.weight.detach().float()
        noise = torch.randn(len(ids), weight.shape[1], generator=torch.Generator().manual_seed(0))
        self.rows = nn.Parameter(weight.mean(0) + weight.std(0) * noise)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids of any shape -> [..., H]."""
        new = ids.unsqueeze(-1) == self.ids
        is_new = new.any(-1)
        found = self.base(ids.masked_fill(is_new, 0))
        return torch.where(is_new.unsqueeze(-1), self.rows[new.int().argmax(-1)].to(found.dtype), found)


def prepare(model: Any, config: ContentEncoder, fresh: tuple[int, ...]) -> None:
    """Make the config's weights of a transformers model train, in place; `fresh` are its new tokens.

    Modules that no pretraining has made (the model's `untrained`) train whatever the config says. Weights that train
    are float32, whatever the others are. Dropout is off, so that an item's states are the same in each of a step's
    forwards. LoRA adapts every linear layer of the language model (its attention and MLP), not those of its eyes.
    """
    model.requires_grad_(config.train == "full")
    if config.train == "lora":
        _adapt(model, config.lora_rank)
    for name in untrained(model):
        model.get_submodule(name).requires_grad_(True)
    if fresh:
        model.set_input_embeddings(
            TokenRows(model.get_input_embeddings(), fresh).requires_grad_(config.train != "frozen")
        )
        model.get_input_embeddings().base.requires_grad_(config.train == "full")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    if config.checkpointing:
        # Older releases know the older name only, newer ones warn of it.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})


def untrained(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that no pretraining has made."""
    return getattr(model, "untrained", ())


def _adapt(model: Any, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    decoder = model.get_decoder()
    linear = {id(module) for module in decoder.modules() if isinstance(module, nn.Linear)}
    names = [name for name, module in model.named_modules() if id(module) in linear]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), model)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False  # autocast casts, where PEFT would to float32 and back
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def merge(model: nn.Module) -> None:
    """Add adapters into the weights they adapt, in place: as fast as the bare model, and no longer to be trained."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
