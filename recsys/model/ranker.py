"""The host ranker: DLRM-style crossing of features, with target attention over the user's history.

Legend: B batch, F vectors that are crossed, D embedding width, L history length, T history items of the batch,
U distinct contents of the batch's items, K proxies of an item, C and G widths of its frozen vectors, H width of the
last hidden layer.
"""

import torch
from torch import Tensor, nn
from torchrec.modules.crossnet import LowRankCrossNet
from torchrec.modules.embedding_configs import DataType, EmbeddingBagConfig, EmbeddingConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.modules.mlp import MLP

from recsys.config import Model
from recsys.data.batch import HISTORY, Batch
from recsys.data.encode import InputSpec, TableSpec
from recsys.model.attention import TargetAttention
from recsys.model.proxies import Proxies
from recsys.model.slots import IDSlot


class Crossing(nn.Module):
    """[B, F, D] vectors -> [B, out] crossed features: all pairwise dots (DLRM) or a low-rank cross net (DCN-v2)."""

    pairs: Tensor

    def __init__(self, kind: str, vectors: int, dim: int, layers: int, rank: int) -> None:
        super().__init__()
        self.cross = LowRankCrossNet(vectors * dim, layers, rank) if kind == "dcn" else None
        pairs = vectors * (vectors - 1) // 2
        self.out = vectors * dim + (0 if self.cross else pairs)
        self.register_buffer("pairs", torch.triu_indices(vectors, vectors, offset=1), persistent=False)

    def forward(self, x_BFD: Tensor) -> Tensor:
        """[B, F, D] float -> [B, out] float; dots come beside the vectors themselves."""
        flat = x_BFD.flatten(1)
        if self.cross is not None:
            return self.cross(flat)
        dots_BFF = torch.bmm(x_BFD, x_BFD.transpose(1, 2))
        return torch.cat([flat, dots_BFF[:, self.pairs[0], self.pairs[1]]], dim=1)


class DenseArch(nn.Module):
    """Everything after the tables: plain tensors in, one logit a row out."""

    def __init__(self, spec: InputSpec, config: Model, bf16: bool = False) -> None:
        super().__init__()
        self.dim, self.history, self.bf16 = config.dim, spec.history, bf16
        self.bottom = MLP(spec.dense, [*config.bottom, config.dim]) if spec.dense else None
        self.attention = (
            TargetAttention(config.dim, config.attention, config.heads, spec.history, config.history_labels)
            if spec.history
            else None
        )
        proxies = len(spec.content)
        vectors = len(spec.single) + len(spec.multi) + 1 + bool(spec.dense) + (config.heads if spec.history else 0)
        vectors += proxies if config.proxy.place == "feature" else 0
        self.crossing = Crossing(config.cross, vectors, config.dim, config.cross_layers, config.cross_rank)
        self.top = MLP(self.crossing.out, config.top)
        self.dropout = nn.Dropout(config.dropout)
        self.logit = nn.Linear(config.top[-1], 1)
        # Behind all the others, which so start from the same values as they do without proxies.
        self.proxies = (
            Proxies([table.dim for table in spec.content], config.dim, config.proxy.adaptor, config.proxy.dropout)
            if proxies
            else None
        )
        self.slot = IDSlot(config.dim, proxies if config.proxy.place == "slot" else 0)

    def forward(self, *inputs: Tensor) -> Tensor:
        """[B] float32 logits of what `represent` takes."""
        return self.represent(*inputs)[0]

    def represent(
        self,
        dense: Tensor,
        pooled: Tensor,
        target: Tensor,
        history: Tensor,
        history_lengths: Tensor,
        history_label: Tensor,
        content_index: Tensor | None = None,
        coarse: Tensor | None = None,
        layers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits [B] of a batch, and the last hidden layer [B, H] that they are a product with; float32.

        Args:
            dense: [B, F_dense] float32.
            pooled: [B, F_sparse * D] float32, the bags side by side.
            target: [B, D] float32, ID vectors of the scored items.
            history: [T, D] float32 ID vectors; history_lengths: [B]; history_label: [T] int64.
            content_index: as `Batch` has it; coarse: [U, C] and layers: [U, G] float32, where the model reads them.
        """
        # In a leaf of the pipelines' tracing: a context around the whole model would live only while it is traced.
        with torch.autocast(target.device.type, torch.bfloat16, enabled=self.bf16):
            shift = shift_T = proxies_BKD = key_BLD = label_BL = None
            if self.proxies is not None and coarse is not None:
                # Once a distinct item: a popular one is in most histories of a batch.
                proxies_UKD = self.proxies(coarse, layers)
                if self.slot.fuse is None:
                    proxies_BKD = proxies_UKD[content_index]
                else:
                    shift, shift_T = self.slot.shift(proxies_UKD)[content_index].tensor_split([len(target)])
            if self.attention is not None:
                key_BLD = self._padded(self.slot(history, shift_T), history_lengths)
                label_BL = self._padded(history_label.float().unsqueeze(1), history_lengths).squeeze(-1).long()
            target_BD = self.slot(target, shift)
            hidden_BH = self.hidden(dense, pooled, target_BD, key_BLD, history_lengths, label_BL, proxies_BKD)
            return self.last(hidden_BH), hidden_BH.float()

    def hidden(
        self,
        dense: Tensor,
        pooled: Tensor,
        target_BD: Tensor,
        key_BLD: Tensor | None,
        lengths_B: Tensor,
        label_BL: Tensor | None,
        proxies_BKD: Tensor | None = None,
    ) -> Tensor:
        """[B, H] from slot vectors: of the scored items, and of the padded histories where the model reads any.

        `proxies_BKD`: the scored items' proxies, where they are features of their own.
        """
        # Not len(): torch.export would take the example's batch size for the only one.
        vectors = [pooled.view(target_BD.shape[0], -1, self.dim), target_BD.unsqueeze(1)]
        if self.bottom is not None:
            vectors.append(self.bottom(dense).unsqueeze(1))
        if self.attention is not None and key_BLD is not None and label_BL is not None:
            vectors.append(self.attention(target_BD, key_BLD, label_BL, lengths_B))
        if proxies_BKD is not None:
            vectors.append(proxies_BKD)
        return self.top(self.crossing(torch.cat(vectors, dim=1)))

    def last(self, hidden_BH: Tensor) -> Tensor:
        """[B] float32 logits of last hidden layers."""
        return self.logit(self.dropout(hidden_BH)).squeeze(-1).float()

    def _padded(self, values_TX: Tensor, lengths_B: Tensor) -> Tensor:
        """[T, X] float values of all histories -> [B, L, X], zero where there is none."""
        offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths_B)
        padded: Tensor = torch.ops.fbgemm.jagged_to_padded_dense(values_TX, [offsets], [self.history])
        return padded


class Served(nn.Module):
    """The dense part for `torch.export`: padded histories in, so that no operator of fbgemm is left in the graph."""

    def __init__(self, dense_arch: DenseArch) -> None:
        super().__init__()
        self.dense_arch = dense_arch

    def forward(
        self,
        dense: Tensor,
        pooled: Tensor,
        target: Tensor,
        history: Tensor,
        lengths: Tensor,
        history_label: Tensor,
        content: Tensor | None = None,
        history_content: Tensor | None = None,
    ) -> Tensor:
        """Probabilities of a batch.

        Args:
            dense: [B, F_dense] float32. pooled: [B, F_sparse * D] float32. target: [B, D] float32 ID vectors.
            history: [B, L, D] float32 ID vectors, oldest first, anything beyond `lengths` [B] int64.
            history_label: [B, L] int64, 0 or 1.
            content: [B, C] or [B, C + D] float32, the coarse vector and, where there is one, the fine proxy beside it;
            history_content: [B, L, ...] the same, where history items show theirs.

        Returns:
            [B] float32.
        """
        hidden_BH = self._hidden(dense, pooled, target, history, lengths, history_label, content, history_content)
        return self.dense_arch.last(hidden_BH).sigmoid()

    def _hidden(
        self,
        dense: Tensor,
        pooled: Tensor,
        target: Tensor,
        history: Tensor,
        lengths: Tensor,
        history_label: Tensor,
        content: Tensor | None,
        history_content: Tensor | None,
    ) -> Tensor:
        """[B, H] last hidden layers."""
        slot, proxies_BKD, shift, shift_BLD = self.dense_arch.slot, None, None, None
        if slot.fuse is not None and content is not None:
            shift = slot.shift(self._proxies(content))
            shift_BLD = None if history_content is None else slot.shift(self._proxies(history_content))
        elif content is not None:
            proxies_BKD = self._proxies(content)
        target, history = slot(target, shift), slot(history, shift_BLD)
        return self.dense_arch.hidden(dense, pooled, target, history, lengths, history_label, proxies_BKD)

    def _proxies(self, content: Tensor) -> Tensor:
        """[..., C] or [..., C + D] -> [..., K, D]."""
        proxies = self.dense_arch.proxies
        assert proxies is not None
        coarse, fine = content[..., : proxies.width], content[..., proxies.width :]
        found = [proxies.project(coarse), fine] if proxies.adaptor is not None else [proxies.project(coarse)]
        return torch.stack(found, dim=-2)


class ServedPrompted(Served):
    """`Served` with a prompt network's final vectors, which a table of its own holds: logit + hidden . prompt."""

    def forward(  # type: ignore[override]
        self,
        dense: Tensor,
        pooled: Tensor,
        target: Tensor,
        history: Tensor,
        lengths: Tensor,
        history_label: Tensor,
        prompt: Tensor,
        content: Tensor | None = None,
        history_content: Tensor | None = None,
    ) -> Tensor:
        """As `Served.forward`; prompt: [B, H] float32, of the scored items."""
        hidden_BH = self._hidden(dense, pooled, target, history, lengths, history_label, content, history_content)
        return (self.dense_arch.last(hidden_BH) + (hidden_BH * prompt).sum(dim=1)).sigmoid()


class Ranker(nn.Module):
    """Tables and dense part. Built on the meta device and sharded from outside (`recsys.tables.sharding`).

    The item table lies in an `EmbeddingCollection` shared by target and history, each content table in one of its own;
    every other table is a bag.
    """

    def __init__(self, spec: InputSpec, config: Model, device: torch.device | None = None, bf16: bool = False) -> None:
        super().__init__()

        def init(weight: Tensor) -> None:
            nn.init.normal_(weight, std=config.init_std)

        dtype = DataType[config.table_dtype.upper()]
        self.bags = EmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=table.name,
                    num_embeddings=table.capacity,
                    embedding_dim=config.dim,
                    feature_names=[table.name],
                    pooling=PoolingType.SUM,
                    data_type=dtype,
                    init_fn=init,
                )
                for table in [*spec.single, *spec.multi]
            ],
            device=device,
        )
        self.items = EmbeddingCollection(
            [
                EmbeddingConfig(
                    name=spec.item.name,
                    num_embeddings=spec.item.capacity,
                    embedding_dim=config.dim,
                    feature_names=[spec.item.name, HISTORY],
                    data_type=dtype,
                    init_fn=init,
                )
            ],
            device=device,
        )
        self.bag_keys = [table.name for table in [*spec.single, *spec.multi]]
        self.item_key = spec.item.name
        self.dense_arch = DenseArch(spec, config, bf16)
        self.content = nn.ModuleDict({table.name: _frozen(table, device) for table in spec.content})

    def forward(self, batch: Batch) -> Tensor:
        """[B] float32 logits."""
        return self.dense_arch(batch.dense, *self.look_up(batch), batch.history_label, *self.look_up_content(batch))

    def represent(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `DenseArch.represent`."""
        looked_up = self.look_up(batch)
        return self.dense_arch.represent(batch.dense, *looked_up, batch.history_label, *self.look_up_content(batch))

    def look_up(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the tables hold for a batch, in the order that `DenseArch` takes it.

        Returns:
            Bags [B, F_sparse * D], targets [B, D] and history items [total, D], all float32; history lengths [B].
        """
        bags = self.bags(batch.sparse)
        # By name: a sharded collection gives its values in the order of its shardings, which another plan changes.
        pooled_FBD = torch.stack([bags[key] for key in self.bag_keys])
        # Means are made here: where one table of a plan is row-wise, torchrec 1.8 divides the others' means once more.
        count_FB = batch.sparse.lengths().view(len(self.bag_keys), -1)
        pooled = (pooled_FBD / count_FB.clamp(min=1).unsqueeze(-1)).transpose(0, 1).flatten(1)
        items = self.items(batch.items)
        history = items[HISTORY]
        return pooled, items[self.item_key].values(), history.values(), history.lengths()

    def look_up_content(self, batch: Batch) -> tuple[Tensor, ...]:
        """What comes behind: the index, coarse vectors [U, C] and layers [U, G] float32; nothing without such tables.

        No gradient reaches the tables, so that neither their rows nor their optimizer's state ever move.
        """
        if not self.content:
            return ()
        found = [tables(batch.content)[name].values().detach().float() for name, tables in self.content.items()]
        return batch.content_index, *found


def _frozen(table: TableSpec, device: torch.device | None) -> EmbeddingCollection:
    """A table of half-precision vectors, all zero until `recsys.tables.content` fills it."""
    config = EmbeddingConfig(
        name=table.name,
        num_embeddings=table.capacity,
        embedding_dim=table.dim,
        feature_names=[table.name],
        data_type=DataType.FP16,
        init_fn=nn.init.zeros_,
    )
    return EmbeddingCollection([config], device=device)


class RankerLoss(nn.Module):
    """The ranker under weighted binary cross-entropy.

    Of rows whose negatives were kept with probability w alone, the odds are 1 / w times those of all rows: they are
    learnt as the ranker's logit plus `shift` = -ln(w), so that the ranker's own probabilities are those of all rows
    (He et al. 2014, section 6.3: q = p / (p + (1 - p) / w), where p is the probability among the rows kept).
    """

    def __init__(self, ranker: Ranker, shift: float = 0.0) -> None:
        super().__init__()
        self.ranker = ranker
        self.shift = shift

    def forward(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss (scalar) and, detached, (loss, logits, label, weight, row_id), all but the first [B].

        The sum of the weighted losses is divided by B, padding included, and not by the weight: averaged over ranks,
        the gradient is then the same however the rows were dealt. The logits returned are the ranker's own.
        """
        logits = self.ranker(batch)
        shifted = logits + self.shift
        losses = nn.functional.binary_cross_entropy_with_logits(shifted, batch.label, batch.weight, reduction="sum")
        loss = losses / batch.label.shape[0]
        return loss, (loss.detach(), logits.detach(), batch.label, batch.weight, batch.row_id)
