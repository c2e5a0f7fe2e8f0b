"""Content to ID space: h = phi(g(M(content))) / ||phi(g(M(content)))|| (IDProxy, section 3.1.2).

Legend: B items, T tokens, H encoder width, D ID width.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from proxy.content import Content
from proxy.loss import Temperature
from proxy.pooling import AttentionPool
from recsys.config import Align


class Projection(nn.Sequential):
    """phi: an MLP with GELU from H to D over normalised states, in float32."""

    def __init__(self, width: int, hidden: list[int], dim: int) -> None:
        sizes = [width, *hidden]
        pairs = pairwise(sizes)
        layers = [layer for before, after in pairs for layer in (nn.Linear(before, after), nn.GELU())]
        super().__init__(nn.LayerNorm(width), *layers, nn.Linear(sizes[-1], dim))


class Aligner(nn.Module):
    """M, g and phi.

    Attributes:
        encoder: M, as `proxy.encoder.load` gives it.
        pool: g, one learned query.
        phi: to the ID space.
        temperature: of the loss that trains them.
    """

    def __init__(self, encoder: nn.Module, dim: int, options: Align) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = AttentionPool(encoder.width)
        self.phi = Projection(encoder.width, options.hidden, dim)
        self.temperature = Temperature(options.temperature, options.learn_temperature)

    def trained(self) -> dict[str, nn.Parameter]:
        """What stage 1 trains, by name; of the encoder, what its own config has it train."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @property
    def dim(self) -> int:
        """D."""
        return self.phi[-1].out_features

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, D] float32 proxies of length 1, of what `encoder.collate` made of B items."""
        states = self.encoder(inputs)
        return normalize(self.phi(self.pool(states.last, states.mask).float()))

    def encode(self, content: Content) -> Tensor:
        """The same of B items' content, on the model's device."""
        device = self.phi[-1].weight.device
        inputs = self.encoder.collate(content)
        return self({name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()})


@torch.inference_mode()
def coarse(model: Aligner, contents: Iterable[Content], batch_size: int) -> Iterator[tuple[pa.Array, Tensor]]:
    """Ids [n] and p_coarse [n, D] float32 on the CPU of every item that has any content, in the order given.

    Dropout is off. Within one of `contents` items are encoded `batch_size` at a time in order of length, so that few
    tokens are padding.
    """
    model.eval()
    for content in contents:
        told = content.take(np.flatnonzero(~content.empty))
        proxies = torch.empty(len(told), model.dim)
        for some in by_length(told, np.arange(len(told)), batch_size):
            proxies[some] = model.encode(told.take(some)).cpu()
        yield told.ids, proxies


def by_length(content: Content, at: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The positions `at` in chunks of at most `batch_size` items whose texts are about as long."""
    lengths = np.array([len(content.texts[i]) for i in at])
    ordered = at[np.argsort(lengths, kind="stable")]
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
