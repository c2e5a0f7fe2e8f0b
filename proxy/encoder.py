"""M: an item's content to token states, by one interface over sentence, text and vision-language encoders.

    encoder = load(config.proxy.encoder)
    states = encoder(encoder.collate(content))

Legend: B items, T tokens, H encoder width.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from proxy import pretrained, tuning
from proxy.content import Content
from proxy.prompt import Plain, Prompt
from recsys.config_proxy import ContentEncoder
from recsys.errors import InputError


@dataclass(frozen=True)
class States:
    """Token states of a batch.

    Attributes:
        last: [B, T, H] of the last layer, in the precision that the encoder computes in.
        mask: [B, T] bool, True where there is a token.
        layers: if asked for, [B, T, H] of every layer in order (the embedding is not one); the last is `last`.
    """

    last: Tensor
    mask: Tensor
    layers: tuple[Tensor, ...] = ()


class Encoder(nn.Module):
    """A pretrained model with its prompt.

    Attributes:
        width: H.
        depth: how many layers there are.
        bf16: whether it computes in bfloat16.
        untrained: what the names of the parameters that no pretraining has made begin with.
    """

    def __init__(self, model: Any, reader: Plain | Prompt, config: ContentEncoder) -> None:
        super().__init__()
        self.model = model
        self.width: int = model.config.get_text_config().hidden_size
        self.depth: int = model.config.get_text_config().num_hidden_layers
        self._reader = reader
        self._reading = Lock()  # a tokenizer that several threads share is set up by each call
        self.bf16 = config.bf16
        self.untrained = tuple(f"model.{name}." for name in tuning.untrained(model))
        self._attention = ""

    def collate(self, content: Content) -> dict[str, Tensor]:
        """What `forward` takes of B >= 1 items, on the CPU: token ids and mask [B, T], pixels if there are images.

        It depends on nothing but the content. Texts are cut at the token budget; padding is on the right.
        """
        with self._reading:
            return self._reader(content)

    def forward(self, inputs: dict[str, Tensor], layers: bool = False) -> States:
        """States of a batch of `collate`, on the encoder's device; `layers` asks for those of every layer.

        All layers of a batch are in memory until the result is dropped: B T H times `depth`.
        """
        device, dtype = self.model.device, self.model.dtype
        self._attend(device)
        moved = {name: one.to(device, dtype if one.is_floating_point() else None) for name, one in inputs.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            out = self.model(**moved, output_hidden_states=layers)
        every = tuple(out.hidden_states[1:]) if layers else ()
        return States(out.last_hidden_state, moved["attention_mask"].bool(), every)

    def _attend(self, device: torch.device) -> None:
        # On a CPU fused attention makes a step that trains half as long again, and no forward shorter.
        wanted = "eager" if device.type == "cpu" else "sdpa"
        if self._attention != wanted:
            self.model.set_attn_implementation(wanted)
            self._attention = wanted

    def trained(self) -> dict[str, Tensor]:
        """The weights that train, by name: all that has to be kept of an encoder beside its config. Not copied."""
        return {name: one.detach() for name, one in self.named_parameters() if one.requires_grad}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Take over what `trained` gave of an encoder of the same config.

        Raises:
            InputError: other names or shapes than this encoder trains; nothing is changed.
        """
        own = self.trained()
        wrong = sorted(set(own) ^ set(weights)) or [name for name in own if own[name].shape != weights[name].shape]
        if wrong:
            raise InputError(f"encoder: weights of another configuration: {wrong[0]} ({len(wrong)} in all)")
        with torch.no_grad():
            for name, weight in weights.items():
                own[name].copy_(weight)

    def merge(self) -> None:
        """Add LoRA's adapters into the weights, to generate at full speed; not to be trained or stored afterwards."""
        tuning.merge(self.model)


def load(config: ContentEncoder) -> Encoder:
    """The pretrained encoder of a config, ready to train what the config says, on the CPU.

    Raises:
        InputError: no such model (see `pretrained.load`), or a token budget beyond what it reads.
    """
    model, reader = pretrained.load(config)
    model.config.use_cache = model.config.get_text_config().use_cache = False
    positions = model.config.get_text_config().max_position_embeddings
    made = (Plain if config.kind == "sentence" else Prompt)(reader, config, positions)
    tuning.prepare(model, config, made.fresh)
    return Encoder(model, made, config)
