"""The part of the config that says how a language model is asked what a user would do."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Amount, Natural, Positive, Share, Template

Words = Annotated[str, Field(pattern=r'^[^\s"]+( [^\s"]+)*$')]
"""Words of the question, without a double quote: those enclose what comes from the data."""

Url = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+(/[^\s/?#]+)*$")]
"""Of a server, without a slash at its end: http://127.0.0.1:8000."""


def _not_taken(name: str) -> str:
    if name.startswith(".") or name in ("adapter", "tuning", "content", "filter", "judged", "gauge.json"):
        raise ValueError(f"{name!r} is the simulator's own")
    if name in ("checkpoint", "vectors", "ridge"):
        raise ValueError(f"{name!r} is a backbone's own")
    return name


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Prompt:
    """Given the user <did> the <items> "...", determine whether the user will <do> the <item> "..."."""

    item: Words = "item"
    """What one item is called."""
    items: Words = "items"
    """What several items are called."""
    do: Words = "interact with"
    """What a user will do with an item."""
    did: Words = "interacted with"
    """What a user did with an item."""
    template: Template = "{title}. {categories}"
    """The text of the item asked about: columns of items.parquet in braces."""
    tokens: Positive = 48
    """Tokens of that text that are read, from its start."""
    history_template: Template = "{title}"
    """The text of an item of the history."""
    history_tokens: Positive = 16
    """Tokens of each such text that are read, from its start."""
    history: Natural = 20
    """Items of the user's history, all of them where there are fewer; which, `funnel.context` says, and in tuning they
    are drawn at random."""
    seed: Natural = 0
    """Draws them."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Requests:
    """How servers are asked, over HTTP."""

    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    """Seconds in which a server must answer a request."""
    in_flight: Positive = 4
    """Requests that one server has at a time, of all ranks whose own it is, each at least one."""
    retries: Natural = 8
    """How often a request is asked again of one server, and how many failures in a row one may have before it is lost;
    where all are lost the run ends."""
    backoff: Amount = 1.0
    """Seconds that a server is left alone after a failure; twice as long after each further one, a minute at most."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Judge:
    """The language model that answers."""

    backend: Literal["transformers", "vllm"] = "transformers"
    """What runs it: transformers, in this process, or vLLM servers at `endpoints`."""
    name: Annotated[str, Field(min_length=1)] = "smollm2-135m"
    """`smollm2-135m`, a folder, or a name on the hub: a causal language model in safetensors. Of `vllm`, the model that
    the servers have; its tokenizer is read here."""
    adapter: str | None = None
    """Folder of a LoRA adapter in PEFT's form, in safetensors, which is merged into the weights. With `vllm` None:
    merge it, serve that, and name that."""
    tuned: bool = True
    """transformers, without an `adapter`: use that of the run, which `tools.simulate tune` makes; else the model is
    used as it is."""
    bf16: bool = True
    """Hold the weights and compute in bfloat16; the answer is float32 always. Of servers it says what they do."""
    batch_size: Positive = 16
    """Questions of one forward, or of one request; the histories of a forward are no more."""
    cache: str = "data/cache"
    """Where weights are kept that have to be converted once."""
    endpoints: list[Url] = field(default_factory=list)
    """vllm: servers that generate, all of them of the same model. Ranks share them out in order, so a host's stand
    together; a rank whose own are down asks the others."""
    embedders: list[Url] = field(default_factory=list)
    """vllm: servers that pool the same model's states by their mean; none: this process does, by transformers."""
    requests: Requests = field(default_factory=Requests)
    """vllm: how they are asked."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tune:
    """How the language model learns from training interactions."""

    steps: Positive = 400
    """Steps of AdamW."""
    users: Positive = 1
    """Users of a step over all ranks, each with one history, about which all of its questions are asked."""
    positives: Positive = 8
    """Questions about items that the user took, for each history, and as many about items that nobody showed them;
    once more as many about items that they were shown and did not take, where the log tells these apart."""
    popular_share: Share = 1.0
    """Share of the items that nobody showed them that is drawn in proportion to popularity, first among those that the
    step's other users are asked about, the rest uniformly. With uniform ones alone the model learns what is popular,
    not what the user likes."""
    temporal: bool = False
    """Histories hold only what the user took in seconds strictly before those of the questions' items."""
    lora_rank: Positive = 8
    """Rank of the adapters, one at each linear layer, scaled by 2."""
    lr: Amount = 1e-3
    """AdamW's highest."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How it goes on after `warmup` steps of rise: down to zero at the last step, or not."""
    warmup: Natural = 10
    """Steps in which it rises from zero."""
    start: str | None = None
    """Folder of an adapter in PEFT's form to go on from, on newer logs; None: from nothing."""
    checkpoint_every: Positive = 100
    """Steps between checkpoints."""
    seed: Natural = 0
    """Draws the users, histories and items, and the initial weights."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Gauge:
    """How it is found out what the judge knows of new items."""

    pairs: Annotated[int, Field(ge=2)] = 4000
    """Pairs of users and cold items, half of them taken in split=valid or test; of each kind of the others, uniform and
    by popularity, there are as many."""
    per_user: Positive = 8
    """Of a user at most so many that they took; their history is read once for all that they are asked about."""
    seed: Natural = 0
    """Draws the users and the items."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Filter:
    """The towers that say which users may take an item: two pairs, whose scores are added.

    A score is the dot product of what a user's tower and an item's make. Items are known by content alone, so that cold
    ones have vectors, too.
    """

    kind: Literal["coldllm", "llm-ins"] = "coldllm"
    """What the language pair learns from: the host's user vectors, what users took and what the judge says (ColdLLM,
    section 4.3.2), or the content of what users took (LLM-InS's Llama sub-tower). The behaviour pair is both papers':
    the host's user vectors, what users took, and the host's scores."""
    host: str | None = None
    """Folder of the host model's vectors, as `tools.backbone` and `tools.export` write them; None: the ID tables of the
    run's best checkpoint."""
    content: str | None = None
    """What items are known by: `minilm`, a Parquet file (item_id, vector), or None: the judge's own embeddings."""
    behaviour: bool = True
    """Use the behaviour pair."""
    language: bool = True
    """Use the language pair; without it nothing is judged."""
    width: Positive = 64
    """Width of the vectors of each pair."""
    hidden: list[Positive] = field(default_factory=list)
    """Widths of each tower's hidden layers; [] is a linear map. On MovieLens-1M layers found up to 1.6 times as many
    of an item's users, and vectors learned from those ranked worse for each user."""
    user_negatives: Amount = 1.0
    """Weight of ranking, for an item, its user above another, beside ranking, for a user, the item above another."""
    distance: Amount = 1.0
    """alpha (LLM-InS, eq. 15): weight of the distance of scores from the host's. Less of it finds more of an item's
    users, by how active they are; more finds those whom the host's own vectors can tell from others."""
    identification: Amount = 0.1
    """beta (LLM-InS, eq. 15): weight of setting an item apart from others as much as the host does."""
    coupled: Natural = 1000
    """coldllm: pairs that the judge is asked, of warm items."""
    coupled_weight: Amount = 0.1
    """coldllm: weight of agreeing with it (ColdLLM, eq. 17); 0 where it is not tuned, for then it knows nothing."""
    lr: Amount = 3e-3
    """AdamW's."""
    batch: Positive = 8192
    """Interactions a step."""
    epochs: Positive = 20
    """Passes over the interactions at most."""
    patience: Positive = 3
    """Stop after this many epochs in which the users of left-out items were found no better; the best epoch is kept."""
    left_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the warm items that nothing is learned from, to stop by and to report on."""
    seed: Natural = 0
    """Draws initial weights, left-out items, orders, negatives, and the pairs that are judged."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Retrieve:
    """How an item's users are found among all."""

    index: Literal["flat", "ivf-pq"] = "flat"
    """flat: exact, 4 bytes a value. ivf-pq: `bytes` and 8 more a user, approximate, for many users."""
    lists: Natural = 0
    """ivf-pq: cells that users are divided into; 0 is 4 sqrt(users)."""
    probe: Positive = 32
    """ivf-pq: cells that are searched for an item."""
    bytes: Positive = 32
    """ivf-pq: of a user's code, a divisor of the filter's width (both pairs')."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Funnel:
    """Which users are simulated to take a cold item: candidates, and those of them that the judge says Yes of."""

    items: Positive | None = None
    """Cold items simulated, drawn among those that can be; None: all of them."""
    users: Literal["filter", "random"] = "filter"
    """Candidates of an item: the users with the highest scores by the filter, or users drawn at random."""
    candidates: Positive = 50
    """Candidates of an item at most."""
    qualified: Positive = 20
    """An item is done when so many of its users qualify."""
    refine: bool = True
    """Ask the judge about candidates; else the first `qualified` of them qualify, and nothing is asked."""
    round: Positive = 20
    """Candidates of an item that are asked about before it is seen how many qualify. In a large round more questions
    share a context; beyond `qualified`, more are asked in vain."""
    context: Literal["group", "item", "random"] = "group"
    """Items of the user's history that are shown (`simulator.prompt.history` of them): those nearest to the centre of
    the item's group, those nearest to the item (ColdLLM, eq. 8), or as many drawn at random."""
    groups: Positive = 10
    """Groups of the items simulated, by k-means of the filter's vectors: of one group, a user's share a context."""
    threshold: Share | None = None
    """P(Yes) from which a user qualifies; 0.5 is the papers'. None: the one that best tells held-out pairs of warm
    items from pairs drawn at random."""
    calibration: Positive = 400
    """Pairs asked about to find that threshold."""
    batch_size: Positive = 256
    """Questions between two writes of the journal: what a crash can lose."""
    journal: str | None = None
    """Folder of all answers, which any number of runs may share; None: `<run>/simulator/judged`."""
    seed: Natural = 0
    """Draws the items, the random users, the groups' first centres and the pairs of the calibration."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Update:
    """How simulated interactions become the items' rows in the ranker's tables."""

    mode: Literal["frozen", "joint"] = "frozen"
    """frozen: the new items' rows alone are optimised against the trained ranker, and published as a delta; joint: a
    ranker is trained anew on real and simulated rows together, as a run of its own (LLM-InS, section 4.3)."""
    simulated: str | None = None
    """Interactions to learn from, of another simulation; None: `<run>/simulator/<name>/simulated.parquet`."""
    exposure: Natural = 0
    """Kept real rows of each new item that are added to the simulated ones."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    """frozen: of a simulated row in the loss, where a real one has 1."""
    balance: bool = True
    """frozen: weigh each item's positives against its negatives so that at the start they say nothing about how well
    it is liked on the whole; else every row has the same weight, and a judge's rate of Yes is believed."""
    negatives: Positive = 4
    """Users drawn at random for each positive, as negatives: under the label rule `observed`, and for items that lack
    a second class (see `simulator.interactions`)."""
    seed: Natural = 0
    """Draws them."""
    start: Literal["unknown", "ridge"] = "unknown"
    """frozen: where rows start: the trained unknown row, or what closed-form ridge makes of the content (`floor`)."""
    prior: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    """frozen: pull towards the start; 1 expects a new item's vector to differ from it as warm items' vectors do."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    """frozen: converged when a step improves the objective by a smaller share of it."""
    max_passes: Positive = 200
    """frozen: passes over the rows at most."""
    publish: bool = True
    """frozen: bring the rows into the run's tables; else only score the test rows with them, which lets several
    simulations be compared on one run."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BackboneUpdate:
    """How simulated interactions become vectors of a backbone's cold items (`tools.backbone --simulated`).

    They are read as the ranker's update reads them, by `balance`, `negatives` and `seed` of `simulator.update`.
    """

    start: Literal["ridge", "mean"] = "ridge"
    """Where they start: what closed-form ridge makes of the content (`floor`), or the mean of the warm items."""
    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """frozen: pull towards the start; 1 expects a vector to differ from it as much as those of left-out warm items."""
    references: Positive = 5
    """frozen: items that each pair is compared with."""
    seed: Natural = 0
    """frozen: draws those."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Simulator:
    """Users played by a language model."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$"), AfterValidator(_not_taken)] = "simulated"
    """Of one simulation and its folder, `<run>/simulator/<name>`, where a run has several."""
    prompt: Prompt = field(default_factory=Prompt)
    """What it is asked."""
    judge: Judge = field(default_factory=Judge)
    """What answers."""
    tune: Tune = field(default_factory=Tune)
    """How it learns to."""
    gauge: Gauge = field(default_factory=Gauge)
    """How what it knows is measured."""
    filter: Filter = field(default_factory=Filter)
    """Which users it is asked about."""
    retrieve: Retrieve = field(default_factory=Retrieve)
    """How they are found."""
    funnel: Funnel = field(default_factory=Funnel)
    """Whom it is asked about."""
    update: Update = field(default_factory=Update)
    """What is made of their interactions for the ranker."""
    backbone: BackboneUpdate = field(default_factory=BackboneUpdate)
    """What is made of them for a backbone."""
