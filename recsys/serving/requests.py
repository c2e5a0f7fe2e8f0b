"""Bodies of /score: JSON in the shape of one bundle's columns, refused by field, and turned into its rows.

    {"user": {"user_id": "u1", "gender": "F", "history": ["i1", "i2"], "history_label": [1, 0]},
     "items": [{"item_id": "i3", "genres": ["Drama"], "year": 1994}, "i4"],
     "context": {"device": "phone"}, "logits": false}

What is left out is missing, as a null in a bundle's table is; an item may be its bare id. Legend: R requests, n items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from recsys.tables.bundle import Bundle

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
_ERRORS = 10
"""Most errors that are told of one body."""
_ID: dict[str, Any] = {
    "string": str,
    "int64": Annotated[int, Field(ge=-(2**63), lt=2**63)],
}
_LABELS = "history_label"


class InvalidError(Exception):
    """A body that is not as it must be; `errors`: what was expected, by field."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(str(errors))
        self.errors = errors


class TooManyError(InvalidError):
    """A body of too many items; those behind are not looked at."""


@dataclass(frozen=True)
class Asked:
    """One request: n items for one user. `body` is a model of its own for each bundle."""

    body: Any
    rows: int
    logits: bool


@dataclass(frozen=True)
class _Column:
    name: str
    of: str
    """user, item or context."""
    attribute: str
    """Of the models: a column may have any name."""
    python: Any
    arrow: pa.DataType


class Schema:
    """The requests that a bundle takes, of up to `max_items` items. `dense`: the names of its numbers."""

    def __init__(self, bundle: Bundle, max_items: int | None = None) -> None:
        self._columns = list(_columns(bundle))
        self.dense = [column["name"] for column in bundle.inputs["dense"]]
        self._item, self._longest = bundle.inputs["item"], bundle.inputs["history"]
        item = self._model("item")
        bare = BeforeValidator(lambda value: value if isinstance(value, dict) else {self._item: value})
        context = self._model("context")
        fields: dict[str, Any] = {
            "user": (self._model("user"), ...),
            "items": (list[Annotated[item, bare]], Field(min_length=1, max_length=max_items)),  # type: ignore[valid-type]
            "context": (context, Field(default_factory=context)),
            "logits": (bool, False),
        }
        self._body = create_model("Body", __config__=_STRICT, **fields)

    def parse(self, body: bytes) -> Asked:
        """A request from its JSON.

        Raises:
            InvalidError: it is not JSON, lacks a field, has one too many, or one of the wrong type.
            TooManyError: too many items.
        """
        try:
            found: Any = self._body.model_validate_json(body)
        except ValidationError as error:
            told = error.errors(include_url=False, include_context=False, include_input=False)
            many = any((each["loc"], each["type"]) == (("items",), "too_long") for each in told)
            said = {".".join(map(str, each["loc"])) or "body": each["msg"] for each in told[:_ERRORS]}
            raise (TooManyError if many else InvalidError)(said) from None
        lists = [getattr(found.user, c.attribute) or [] for c in self._columns if c.name in ("history", _LABELS)]
        if len({len(each) for each in lists}) > 1:
            raise InvalidError({f"user.{_LABELS}": "expected one label for each item of history"})
        return Asked(found, len(found.items), found.logits)

    def table(self, asked: Sequence[Asked]) -> pa.Table:
        """The rows of R requests, one after another, [n of all] of the bundle's columns.

        What all rows of a request share is a dictionary, so that no id of a history is looked at once an item.
        """
        owner = pa.array(np.repeat(np.arange(len(asked)), [each.rows for each in asked]))
        columns = {}
        for column in self._columns:
            if column.of == "item":
                values = [getattr(item, column.attribute) for each in asked for item in each.body.items]
                columns[column.name] = pa.array(values, column.arrow)
                continue
            values = [getattr(getattr(each.body, column.of), column.attribute) for each in asked]
            if column.name in ("history", _LABELS):
                values = [value and value[-self._longest :] for value in values]
            columns[column.name] = _named_once(pa.array(values, column.arrow)).take(owner)
        return pa.table(columns)

    def _model(self, of: str) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for column in self._columns:
            if column.of == of and column.name == self._item:
                fields[column.attribute] = (column.python, Field(alias=column.name))
            elif column.of == of:
                fields[column.attribute] = (column.python | None, Field(default=None, alias=column.name))
        return create_model(of.title(), __config__=_STRICT, **fields)


def _named_once(column: pa.Array) -> pa.Array:
    """A column of texts, or of lists of them, as indices into the distinct ones."""
    if pa.types.is_string(column.type):
        return column.dictionary_encode()
    if not pa.types.is_list(column.type) or not pa.types.is_string(column.type.value_type):
        return column
    return pa.ListArray.from_arrays(column.offsets, column.values.dictionary_encode(), mask=column.is_null())


def _columns(bundle: Bundle) -> Sequence[_Column]:
    inputs, tables = bundle.inputs, bundle.told["tables"]
    of = {feature["name"]: feature["of"] for feature in bundle.told["source"]["config"]["features"]}
    found: list[_Column] = []
    for name in bundle.columns:
        table = inputs["item"] if name == "history" else name
        kind = tables[table]["id_type"] if table in tables else None
        python, arrow = (_ID[kind], pa.type_for_alias(kind)) if kind else (float, pa.float64())
        if name in inputs["multi"]:
            python, arrow = Annotated[list[python | None], Field(fail_fast=True)], pa.list_(arrow)  # type: ignore[valid-type]
        elif name == "history":
            python, arrow = Annotated[list[python], Field(fail_fast=True)], pa.list_(arrow)  # type: ignore[valid-type]
        elif name == _LABELS:
            python, arrow = Annotated[list[Literal[0, 1]], Field(fail_fast=True)], pa.list_(pa.int64())
        whose = (
            "item" if name == inputs["item"] else "user" if name in ("history", _LABELS) else of.get(name, "context")
        )
        found.append(_Column(name, whose, f"c{len(found)}", python, arrow))
    return found
