"""The part of the config that says how item content becomes vectors in the ID space: the encoder and its alignment."""

from dataclasses import field, replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from recsys.config_types import STRICT, Amount, Cutoffs, Natural, Positive, Template, Widths

CHANGE_NO_VECTOR = ("batch_size", "cache", "checkpointing")
"""Settings of an encoder that say how it runs, not what it gives."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ContentEncoder:
    """The model that reads an item's content."""

    kind: Literal["sentence", "text", "vision"] = "sentence"
    """A sentence encoder, a causal language model, or a vision-language model: the only one that reads images."""
    name: Annotated[str, Field(min_length=1)] = "minilm"
    """`minilm` (sentence), `smollm2-135m` (text), `effnet-smollm2` (vision: EfficientNet-Lite0's features through a new
    projector into SmolLM2), a folder, or a name on the hub. Of the last two only safetensors are read."""
    template: Template = "{title}. {categories}. {text}"
    """The text that is read of an item: columns of items.parquet in braces. What is missing takes its punctuation with
    it."""
    tokens: Positive = 128
    """Tokens of an item's text that are read, from its start; the prompt and the image come on top."""
    image_bytes: Positive = 10_000_000
    """vision: a larger file is treated as missing, unopened."""
    image_pixels: Positive = 25_000_000
    """vision: an image of more pixels is treated as missing, undecoded."""
    image_side: Positive = 512
    """vision: a longer side is shrunk to so many pixels before the model's own processor sees the image."""
    train: Literal["lora", "full", "frozen"] = "lora"
    """Stage 1 trains low-rank adapters and the rows of the prompt's own tokens, every weight, or nothing;
    a projector that no pretraining has made trains always."""
    lora_rank: Positive = 8
    """lora: rank of the adapters, one at each linear layer of the language model, scaled by 2."""
    bf16: bool = True
    """Compute in bfloat16; weights that are not trained are held in it, too."""
    checkpointing: bool = False
    """Recompute each layer in backward instead of keeping its activations: a third slower, far smaller."""
    batch_size: Positive = 32
    """Items of one forward; a step over more of them takes several."""
    cache: str = "data/cache"
    """Where weights are kept that have to be converted once."""

    def run_like(self, other: "ContentEncoder") -> "ContentEncoder":
        """This encoder, to be run as the other is."""
        return replace(self, **{key: getattr(other, key) for key in CHANGE_NO_VECTOR})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Align:
    """Stage 1: the encoder, its pooling and a projection learn to give an item the ID that the ranker gave it."""

    tau: Positive = 20
    """Training rows that an item needs for its ID vector to be a target."""
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of these items kept for early stopping, drawn by their ids."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of them that nothing is chosen on: what retrieval is reported on."""
    temperature: Annotated[float, Field(ge=0.01, le=1)] = 0.2
    """Of the softmax over the batch's IDs."""
    learn_temperature: bool = True
    """Train it with the rest, between 0.01 and 1, from the value above."""
    hidden: Widths = field(default_factory=lambda: [256])
    """Hidden sizes of the projection, and of the MLP that is its rival."""
    lr: Amount = 1e-4
    """AdamW, for the encoder."""
    new_lr: Amount = 1e-3
    """AdamW, for what begins untrained: pooling, projection, temperature, an encoder's new projector."""
    weight_decay: Amount = 0.01
    """AdamW's."""
    batch_size: Annotated[int, Field(ge=2)] = 512
    """Items a step over all ranks, each the others' negatives."""
    epochs: Positive = 20
    """Passes over the items at most."""
    patience: Positive = 3
    """Stop after this many epochs in which the left-out items' IDs were not found better; the best epoch is kept."""
    recall: Cutoffs = field(default_factory=lambda: [10, 100])
    """Recall@K of the true ID among all targets, for each of these K."""
    folds: Annotated[int, Field(ge=0, le=100)] = 5
    """Alignments more, each without one part of the training items, that make these items' proxies. A proxy made by an
    encoder that has learned from the item's own ID is nearer to it than a new item's can be, and the ranker that is
    trained on such proxies trusts them too much. 0: none, one encoder makes all."""
    seed: Natural = 0
    """Draws the left-out items, the folds, the initial weights, the batches and dropout."""

    @property
    def every_fold(self) -> list[int | None]:
        """All alignments by the fold that they are without, first the one that is without none."""
        return [None, *range(self.folds)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Proxy:
    """Vectors in the ID space, made from an item's content (`tools.align`)."""

    encoder: ContentEncoder = field(default_factory=ContentEncoder)
    """What reads the content."""
    align: Align = field(default_factory=Align)
    """How it learns the ID space."""
    groups: Positive = 3
    """Groups of layers, shallow to deep, whose states the ranker's adaptor reads."""
    sample: Positive = 256
    """Items on whose states the layers are grouped."""
