"""The part of the config that says how a language model is asked what a user would do."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Natural, Positive, Template

Words = Annotated[str, Field(pattern=r'^[^\s"]+( [^\s"]+)*$')]
"""Words of the question, without a double quote: those enclose what comes from the data."""


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
    """Items of the user's history, drawn at random; all of them where there are fewer."""
    seed: Natural = 0
    """Draws them."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Judge:
    """The language model that answers."""

    backend: Literal["transformers"] = "transformers"
    """What runs it: transformers, in this process."""
    name: Annotated[str, Field(min_length=1)] = "smollm2-135m"
    """`smollm2-135m`, a folder, or a name on the hub: a causal language model in safetensors."""
    adapter: str | None = None
    """Folder of a LoRA adapter in PEFT's form, in safetensors, which is merged into the weights; None: as it is."""
    bf16: bool = True
    """Hold the weights and compute in bfloat16; the answer is float32 always."""
    batch_size: Positive = 16
    """Questions of one forward; the histories of a forward are no more."""
    cache: str = "data/cache"
    """Where weights are kept that have to be converted once."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Simulator:
    """Users played by a language model."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "simulated"
    """Of one simulation and its folder, `<run>/simulator/<name>`, where a run has several."""
    prompt: Prompt = field(default_factory=Prompt)
    """What it is asked."""
    judge: Judge = field(default_factory=Judge)
    """What answers."""
