"""Columns to tensors: id maps and scalers fitted on training rows alone, then applied to Arrow tables.

encoder = recsys.data.fit.fit(config)   # one streamed pass over split=train
encoder.save(run / "encoder")
block = encoder.encode(table, first_row=0)
"""

import hashlib
import json
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys import storage
from recsys.config import Config, Feature
from recsys.config_types import Sharding
from recsys.data import content
from recsys.data.ids import IdMap, whole
from recsys.data.jagged import Jagged
from recsys.data.side import Scaler, SideTable, encode_side, floats, lists, read_side
from recsys.errors import InputError
from recsys.files import replacing

USER, ITEM = "user_id", "item_id"


@dataclass(frozen=True)
class TableSpec:
    """One embedding table: `capacity` rows, the unknown row 0 included, of `dim` columns (0: the model's D)."""

    name: str
    capacity: int
    sharding: Sharding
    dim: int = 0


@dataclass(frozen=True)
class InputSpec:
    """What the model must know of its input. Order is the order of the columns in a batch.

    `content`: frozen tables of item content, `item_coarse` first.
    """

    item: TableSpec
    single: list[TableSpec]
    multi: list[TableSpec]
    dense: int
    history: int
    content: list[TableSpec] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """Encoded interactions, still compact: side features are gathered when a batch is cut.

    Attributes:
        user, item: [n] int64 rows in the side tables.
        item_row: [n] int64 rows in the item embedding table.
        single: [n, S_c] int64, multi: list of Jagged, dense: [n, F_c] float32, all of the context columns.
        events: Jagged of the histories: `2 * row in the item embedding table + label`, the label 1 liked and 0 not;
            int32, or int64 of a table of more than 2^30 rows. In one array, because rows that are shuffled cost by the
            places in memory that are visited.
        content: [n, C] int64 rows of the target in the C content tables; history_content: [sum of lengths, C], or
            without columns where the model reads none.
        label, weight: [n] float32; row_id: [n] int64.
    """

    user: np.ndarray
    item: np.ndarray
    item_row: np.ndarray
    single: np.ndarray
    multi: list[Jagged]
    dense: np.ndarray
    events: Jagged
    content: np.ndarray
    history_content: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    row_id: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def history(self) -> Jagged:
        """Item embedding rows, int64."""
        return Jagged((self.events.values >> 1).astype(np.int64), self.events.offsets)

    @cached_property
    def history_label(self) -> np.ndarray:
        """[sum of lengths] int8, aligned with the values of `history`."""
        return (self.events.values & 1).astype(np.int8)

    def slice(self, start: int, stop: int) -> "Block":
        """Rows start to stop, without copying them."""
        first, last = self.events.offsets[start], self.events.offsets[stop]
        return Block(
            user=self.user[start:stop],
            item=self.item[start:stop],
            item_row=self.item_row[start:stop],
            single=self.single[start:stop],
            multi=[column.slice(start, stop) for column in self.multi],
            dense=self.dense[start:stop],
            events=self.events.slice(start, stop),
            content=self.content[start:stop],
            history_content=self.history_content[first:last],
            label=self.label[start:stop],
            weight=self.weight[start:stop],
            row_id=self.row_id[start:stop],
        )


class Encoder:
    """Id maps, scalers and encoded side tables of one training run.

    Attributes:
        lineage: digest of what was fitted: features, ids by row, table widths. Ids admitted later do not change it.
        widths: columns of the content tables.

    Raises:
        InputError: no feature of the config has a table; torchrec cannot pool nothing.
    """

    def __init__(
        self,
        config: Config,
        maps: dict[str, IdMap],
        scalers: dict[str, Scaler],
        lineage: str | None = None,
        widths: dict[str, int] | None = None,
    ) -> None:
        self.config = config
        self.maps = maps
        self.scalers = scalers
        self.widths = widths or {}
        self._weight: str | None = None
        self.context = context_features(config)
        if all(feature.kind == "dense" or feature.name == ITEM for feature in config.features):
            raise InputError("features: expected at least one of kind category or multi besides item_id")
        self._users = [f for f in config.features if f.of == "user" and f.name != USER]
        self._items = [f for f in config.features if f.of == "item" and f.name != ITEM]
        root = storage.at(config.data.path)
        self.users = self._side(root / "users.parquet", USER, self._users)
        self.items = self._side(root / "items.parquet", ITEM, self._items)
        self.lineage = lineage or self._fitted()

    def _fitted(self) -> str:
        """A digest of what the maps and the config say now."""
        tables = {name: [ids.capacity, ids.digest()] for name, ids in sorted(self.maps.items())}
        features = [[f.name, f.of, f.kind] for f in self.ordered]
        model = self.config.model
        told = [features, tables, model.dim, self.spec.history, model.history_labels]
        if self.widths:
            told.append(self.widths)
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def _side(self, path: storage.Location, key: str, features: list[Feature]) -> SideTable:
        return encode_side(read_side(path, key, features), key, features, self.maps, self.scalers)

    @property
    def ordered(self) -> list[Feature]:
        """The features in the order of a batch's columns."""
        return [*self._users, *self._items, *self.context]

    @property
    def spec(self) -> InputSpec:
        """Tables and widths, in batch order: user columns, item columns, context columns."""

        def tables(kind: str) -> list[TableSpec]:
            return [TableSpec(f.name, self.maps[f.name].capacity, f.sharding) for f in self.ordered if f.kind == kind]

        return InputSpec(
            item=TableSpec(ITEM, self.maps[ITEM].capacity, self.config.item_sharding),
            single=tables("category"),
            multi=tables("multi"),
            dense=sum(f.kind == "dense" for f in self.ordered),
            history=self.config.data.history if self.config.model.history else 0,
            content=[
                TableSpec(name, self.maps[name].capacity, self.config.model.proxy.sharding, width)
                for name, width in self.widths.items()
            ],
        )

    def columns(self) -> list[str]:
        """Columns of the interactions that `encode` reads."""
        history = ["history", "history_label"] if self.config.model.history else []
        weight = [self._weight] if self._weight else []
        names = [USER, ITEM, "label", *history, *(feature.name for feature in self.context), *weight]
        return list(dict.fromkeys(names))

    def weighted(self, column: str | None) -> "Encoder":
        """The same encoder, whose rows weigh what a column of the interactions says; None: 1."""
        own = copy(self)
        own._weight = column
        return own

    def encode(self, table: pa.Table, first_row: int) -> Block:
        """Encode consecutive rows of a split, the first of which has row id `first_row`. No loop over rows."""
        return self._block(table, first_row, self.users.index.rows(table[USER]), self.items.index.rows(table[ITEM]))

    def joined(self, table: pa.Table) -> tuple["Encoder", Block]:
        """Encode rows that carry their user's and item's features as columns of their own.

        Returns:
            The encoder that the block belongs to: its side tables are these rows.
        """
        own = copy(self)
        own.users = encode_side(table, USER, self._users, self.maps, self.scalers)
        own.items = encode_side(table, ITEM, self._items, self.maps, self.scalers)
        place = np.arange(table.num_rows) + 1
        return own, self._block(table, 0, place, place)

    def _block(self, table: pa.Table, first_row: int, user: np.ndarray, item: np.ndarray) -> Block:
        n = table.num_rows
        item_map = self.maps[ITEM]
        content_maps = [self.maps[name] for name in self.widths]
        events, history_content = (
            Jagged(np.zeros(0, np.int32), np.zeros(n + 1, np.int64)),
            content.rows([], pa.nulls(0)),
        )
        if self.config.model.history:
            values, offsets = lists(table["history"])
            label = whole(table["history_label"]).flatten().to_numpy(zero_copy_only=False)
            events = Jagged(_events(item_map, values, label), offsets)
            history_content = content.rows(content_maps if content.in_history(self.config) else [], values)
        single = [self.maps[f.name].rows(table[f.name]) for f in self.context if f.kind == "category"]
        dense = [self.scalers[f.name](floats(table[f.name])) for f in self.context if f.kind == "dense"]
        multi = []
        for feature in self.context:
            if feature.kind == "multi":
                values, offsets = lists(table[feature.name])
                multi.append(Jagged(self.maps[feature.name].rows(values), offsets))
        return Block(
            user=user,
            item=item,
            item_row=item_map.rows(table[ITEM]),
            single=np.stack(single, 1) if single else np.zeros((n, 0), dtype=np.int64),
            multi=multi,
            dense=np.stack(dense, 1) if dense else np.zeros((n, 0), dtype=np.float32),
            events=events,
            content=content.rows(content_maps, table[ITEM]),
            history_content=history_content,
            label=table["label"].to_numpy().astype(np.float32),
            weight=floats(table[self._weight]) if self._weight else np.ones(n, np.float32),
            row_id=np.arange(first_row, first_row + n),
        )

    def save(self, folder: Path) -> None:
        """Write the id maps as Parquet and the scalers as JSON; the JSON, written last, marks the folder whole."""
        for name, id_map in self.maps.items():
            id_map.save(folder / f"{name}.parquet")
        manifest = {"maps": list(self.maps), "scalers": {name: asdict(s) for name, s in self.scalers.items()}}
        manifest |= {"lineage": self.lineage, "widths": self.widths}
        with replacing(folder / "encoder.json") as partial:
            partial.write_text(json.dumps(manifest, indent=1))

    @classmethod
    def load(cls, config: Config, folder: Path, maps: dict[str, IdMap] | None = None) -> "Encoder":
        """Read a saved encoder for the dataset that `config` names; `maps` are those that are in memory already.

        Raises:
            InputError: no whole encoder there, or the config names features that it was not fitted for.
        """
        try:
            manifest = json.loads((folder / "encoder.json").read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(f"{folder}: no encoder: train first ({error})") from None
        held = maps or {}
        maps = {name: held.get(name) or IdMap.load(folder / f"{name}.parquet") for name in manifest["maps"]}
        scalers = {name: Scaler(**values) for name, values in manifest["scalers"].items()}
        for feature in config.features:
            if feature.name not in (scalers if feature.kind == "dense" else maps):
                raise InputError(f"{folder}: feature {feature.name!r} of the config was not in the training run")
        widths = manifest.get("widths", {})
        if widths.keys() != content.files(config).keys():
            raise InputError(f"{folder}: model.proxy of the config was not in the training run")
        return cls(config, maps, scalers, manifest.get("lineage"), widths)


def _events(items: IdMap, ids: pa.Array, label: np.ndarray) -> np.ndarray:
    """`Block.events` of [T] ids and labels."""
    rows = items.rows(ids, np.int32 if items.capacity <= 1 << 30 else np.int64)
    return (rows << 1) | label


def context_features(config: Config) -> list[Feature]:
    """Features read from the interactions themselves; `user_id` is one, whatever table describes the user."""
    return [f for f in config.features if (f.of == "context" or f.name == USER) and f.name != ITEM]
