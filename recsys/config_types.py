"""The types of config values that `recsys.config` and its parts share."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _template(text: str) -> str:
    parts = list(Formatter().parse(text))
    if not any(name for _, name, _, _ in parts) or any(name == "" or form or how for _, name, form, how in parts):
        raise ValueError(f"{text!r}: expected columns in braces, such as '{{title}}. {{text}}'")
    return text


def _here(path: str) -> str:
    if "://" in path:
        raise ValueError(f"{path!r}: expected a path on a local or shared file system, not a URI")
    return path


LocalPath = Annotated[str, AfterValidator(_here)]
"""Of what is read or written by renaming, locking or seeking, which object storage cannot do."""
Sharding = Literal[
    "auto",
    "row_wise",
    "table_wise",
    "column_wise",
    "table_row_wise",
    "grid_shard",
    "table_column_wise",
    "data_parallel",
]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Widths = Annotated[list[Positive], Field(min_length=1)]
Cutoffs = Annotated[list[Positive], Field(min_length=1)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Above zero."""
Tried = Annotated[
    list[Above], Field(min_length=1), BeforeValidator(lambda given: given if isinstance(given, list) else [given])
]
"""Values of which the best is chosen; one may stand alone."""
STRENGTHS = (0.01, 0.1, 1.0, 4.0)
"""Of a prior, as they are tried."""
Template = Annotated[str, AfterValidator(_template)]
"""Of an item's text: columns of items.parquet in braces."""
