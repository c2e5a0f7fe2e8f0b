"""Each item's own prompt network, as numbers in tables that are sharded like any other (PROMO, eq. 6).

Legend: B batch, N table rows, D id width, M hidden width, P width of the last prompt, R code width,
Z = M (D + 1) + D (M + 1) + P numbers of an item.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys.config_prompt_model import PromptModel
from recsys.data.encode import TableSpec
from recsys.errors import InputError

CODE = "prompt_code"
ROWS = ("prompt_layer_0", "prompt_layer_1", "prompt_last")
_WIDEST = 1024
"""Columns that fbgemm's kernels take on any device."""

Layers = list[tuple[Tensor, Tensor]]
"""Of each layer the weights [B, in, out] and biases [B, out], float32."""


def prompt_tables(config: PromptModel, dim: int, capacity: int) -> list[TableSpec]:
    """The tables of the per-item parameters at D = `dim`, N = `capacity` rows each; none unless network=item.

    Raises:
        InputError: parameters=rows, and a row would be wider than tables can be.
    """
    if config.network != "item":
        return []
    if config.parameters == "code":
        return [TableSpec(CODE, capacity, config.sharding, config.code)]
    widths = [*(in_ * out + out for in_, out in _layers(config, dim)), config.last]
    if max(widths) > _WIDEST:
        raise InputError(
            f"hidden={config.hidden}, last={config.last}: a layer's weights and biases at D={dim} make rows of "
            f"{max(widths)} columns; expected at most {_WIDEST}: take smaller ones, or parameters=code"
        )
    return [TableSpec(name, capacity, config.sharding, width) for name, width in zip(ROWS, widths, strict=True)]


def _layers(config: PromptModel, dim: int) -> list[tuple[int, int]]:
    """(in, out) of each layer."""
    return [(dim, config.hidden), (config.hidden, dim)]


class PromptParameters(nn.Module):
    """A network's parameters e_i for each item of a batch: a common start, and what the item differs by from it.

        code     e_i = start + G c_i    c_i [R]: the item's row; the start and the generator G [Z, R] learn from all
        rows     e_i = start + r_i      r_i [Z]: the item's rows, one a layer; the start is drawn once and stays
        shared   e_i = start            which learns

    With rows, an item's parameters move by its own feedback alone, and just as the whole of W // b in its rows would.
    Apart from the start, rows begin alike however they are sharded, and a row of zeros stands for a new item.
    """

    start: Tensor

    def __init__(self, config: PromptModel, dim: int, capacity: int, device: torch.device | None = None) -> None:
        """`dim`: D. `capacity`: N. `device`: of the tables, which may be meta.

        Raises:
            InputError: as `prompt_tables`.
        """
        super().__init__()
        self.layers, self.last, specs = _layers(config, dim), config.last, prompt_tables(config, dim, capacity)
        # As nn.Linear begins; the last prompt at zero.
        drawn = [torch.empty(in_ * out + out).uniform_(-1, 1) / math.sqrt(in_) for in_, out in self.layers]
        start = torch.cat([*drawn, torch.zeros(config.last)])
        if specs and config.parameters == "rows":
            self.register_buffer("start", start)
        else:
            self.start = nn.Parameter(start)
        coded = specs and config.parameters == "code"
        self.generator = nn.Linear(config.code, len(start), bias=False) if coded else None
        self.keys = [spec.name for spec in specs]
        self.tables = _bags(specs, config.noise, device) if specs else None

    def forward(self, item_B: Tensor) -> tuple[Layers, Tensor]:
        """`cut` of `look_up`."""
        return self.cut(self.look_up(item_B))

    def look_up(self, item_B: Tensor) -> Tensor:
        """[B, all columns of the tables] float32 of items by their rows [B] int64, each in [0, N)."""
        if self.tables is None:
            return self.start.new_empty(len(item_B), 0)
        count = len(self.keys)
        lengths = torch.ones(count * len(item_B), dtype=torch.int32, device=item_B.device)
        found = self.tables(KeyedJaggedTensor(self.keys, item_B.repeat(count), lengths=lengths))
        return torch.cat([found[key] for key in self.keys], dim=1)

    def cut(self, own: Tensor) -> tuple[Layers, Tensor]:
        """The layers, and the last prompts [B, P] float32, of items by what was looked up."""
        # Cut once: each further view of the numbers would get a gradient of all of them.
        sizes = [size for in_, out in self.layers for size in (in_ * out, out)]
        *parts, last_BP = self._numbers(own).split([*sizes, self.last], dim=1)
        weights = [part.unflatten(1, shape) for part, shape in zip(parts[::2], self.layers, strict=True)]
        return list(zip(weights, parts[1::2], strict=True)), last_BP

    def _numbers(self, own: Tensor) -> Tensor:
        if self.tables is None:
            return self.start.expand(len(own), -1)
        return self.start + own if self.generator is None else linear(own, self.generator.weight, self.start)


def _bags(specs: list[TableSpec], noise: float, device: torch.device | None) -> EmbeddingBagCollection:
    # Bags of one row each: only these may be of several widths.
    def init(weight: Tensor) -> None:
        nn.init.normal_(weight, std=noise)

    return EmbeddingBagCollection(
        [
            EmbeddingBagConfig(
                name=spec.name,
                num_embeddings=spec.capacity,
                embedding_dim=spec.dim,
                feature_names=[spec.name],
                pooling=PoolingType.SUM,
                init_fn=init,
            )
            for spec in specs
        ],
        device=device,
    )
