"""Content to ID space: h = phi(g(M(content))) / ||phi(g(M(content)))|| (IDProxy, section 3.1.2).

Legend: B items, T tokens, H encoder width, D ID width.
"""

from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from proxy.content import Content
from proxy.encoder import Encoder
from proxy.loss import Temperature
from proxy.pooling import AttentionPool
from recsys.config_proxy import Align


def layers(sizes: list[int]) -> list[nn.Module]:
    """Of an MLP with GELU between its layers."""
    pairs: list[tuple[nn.Module, ...]] = [(nn.Linear(before, after), nn.GELU()) for before, after in pairwise(sizes)]
    return [layer for pair in pairs for layer in pair][:-1]


class Aligner(nn.Module):
    """M, g and phi.

    Attributes:
        encoder: M, as `proxy.encoder.load` gives it.
        pool: g, one learned query.
        phi: an MLP to the ID space, in float32.
        temperature: of the loss that trains them.
    """

    encoder: Encoder

    def __init__(self, encoder: Encoder, dim: int, options: Align) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = AttentionPool(encoder.width)
        # Language models differ in the scale of their states by orders of magnitude.
        self.phi = nn.Sequential(nn.LayerNorm(encoder.width), *layers([encoder.width, *options.hidden, dim]))
        self.temperature = Temperature(options.temperature, options.learn_temperature)

    def trained(self) -> dict[str, nn.Parameter]:
        """What stage 1 trains, by name; of the encoder, what its own config has it train."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def pretrained(self) -> set[str]:
        """Of these the names that do not begin untrained: the encoder's, less modules that are new in it."""
        names = {name for name in self.trained() if name.startswith("encoder.")}
        return {name for name in names if not name.removeprefix("encoder.").startswith(self.encoder.untrained)}

    @property
    def dim(self) -> int:
        """D."""
        return self._last.out_features

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._last.weight.device

    @property
    def _last(self) -> nn.Linear:
        return cast(nn.Linear, self.phi[-1])

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, D] float32 proxies of length 1, of what `encoder.collate` made of B items."""
        states = self.encoder(inputs)
        return self.project(states.last, states.mask)

    def project(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, T, H] states of the last layer, [B, T] bool -> [B, D] float32 proxies of length 1."""
        return normalize(self.phi(self.pool(states, mask)))

    def encode(self, content: Content) -> Tensor:
        """The same of B items' content, on the model's device."""
        inputs = self.encoder.collate(content)
        return self({name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()})


def by_length(content: Content, at: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The positions `at` in chunks of at most `batch_size` items whose texts are about as long."""
    lengths = np.array([len(content.texts[i]) for i in at])
    ordered = at[np.argsort(lengths, kind="stable")]
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
