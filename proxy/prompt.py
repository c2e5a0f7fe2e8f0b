"""Content to token ids: `[BOS]<image><text>The compression word is:"[EMB]". [EOS]` (IDProxy, section 3.1.2).

An item's text is untrusted: it is tokenised on its own with special tokens split into ordinary ones, so that it cannot
write a special token or an image's placeholder into the prompt. Padding is on the right.
"""

from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from proxy import images
from proxy.content import Content
from recsys.config_proxy import ContentEncoder
from recsys.errors import InputError

BOS, EOS, EMB = "[BOS]", "[EOS]", "[EMB]"
BEFORE, AFTER = 'The compression word is:"', '". '
_BY_TOKEN = ("token_type_ids", "mm_token_type_ids")
"""What a processor may give for each token besides its id; 0 is text."""


class Plain:
    """A sentence encoder's own input: [CLS] text [SEP]."""

    fresh: tuple[int, ...] = ()

    def __init__(self, tokenizer: Any, config: ContentEncoder, positions: int) -> None:
        self._tokenizer = tokenizer
        self._length = config.tokens + tokenizer.num_special_tokens_to_add()
        _fits(self._length, positions, config)

    def __call__(self, content: Content) -> dict[str, Tensor]:
        return dict(
            self._tokenizer(
                content.texts,
                max_length=self._length,
                truncation=True,
                padding=True,
                padding_side="right",
                split_special_tokens=True,
                return_tensors="pt",
            )
        )


class Prompt:
    """The paper's prompt, for a language model with or without eyes.

    Attributes:
        fresh: ids of those of [BOS], [EOS], [EMB] that the model has no embedding for.
    """

    def __init__(self, reader: Any, config: ContentEncoder, positions: int) -> None:
        self._processor = reader if config.kind == "vision" else None
        self._tokenizer = reader.tokenizer if self._processor else reader
        self._config = config
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        known = self._tokenizer.get_vocab()
        names = [BOS, EOS, EMB]
        self._tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names], True)
        bos, eos, emb = self._tokenizer.convert_tokens_to_ids(names)
        self.fresh = tuple(self._tokenizer.convert_tokens_to_ids([name for name in names if name not in known]))
        self._before = [bos]
        self._after = [*self._ids([BEFORE])[0], emb, *self._ids([AFTER])[0], eos]
        special = {key for key, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        self._never = special | {getattr(self._processor, "image_token_id", None)}
        _fits(config.tokens + len(self._before) + len(self._after), positions, config)

    def __call__(self, content: Content) -> dict[str, Tensor]:
        seen = [one for one in content.images if one] if self._processor else []
        rows, extra = self._look(seen) if seen else ([], {})
        nothing: dict[str, list[int]] = {"input_ids": []}
        looks = iter(rows)
        shown = [next(looks) if one and seen else nothing for one in content.images]
        texts = self._texts(content.texts)
        ids = [self._before + look["input_ids"] + text + self._after for look, text in zip(shown, texts, strict=True)]
        made = {
            "input_ids": _padded(ids, self._tokenizer.pad_token_id or 0),
            "attention_mask": _padded([[1] * len(one) for one in ids], 0),
        }
        for name in _BY_TOKEN:
            if any(name in row for row in rows):
                made[name] = torch.zeros_like(made["input_ids"])
                for at, look in enumerate(shown):
                    values = look.get(name, [])
                    made[name][at, 1 : 1 + len(values)] = torch.tensor(values, dtype=torch.int64)
        return made | extra

    def _texts(self, texts: list[str]) -> list[list[int]]:
        found = self._ids(texts, truncation=True, max_length=self._config.tokens)
        return [[token for token in one if token not in self._never] for one in found]

    def _ids(self, texts: list[str], **options: Any) -> list[list[int]]:
        self._tokenizer.truncation_side = "right"
        return self._tokenizer(texts, add_special_tokens=False, split_special_tokens=True, **options)["input_ids"]

    def _look(self, encoded: list[bytes]) -> tuple[list[dict[str, list[int]]], dict[str, Tensor]]:
        """Of each image its tokens (ids and what else a token has); of all, the pixels."""
        assert self._processor
        pictures = [[images.decode(one, self._config.image_side)] for one in encoded]
        texts = [self._processor.image_token] * len(pictures)
        made = dict(
            self._processor(text=texts, images=pictures, add_special_tokens=False, padding=True, return_tensors="pt")
        )
        mask = made.pop("attention_mask").bool()
        tokens = {name: made.pop(name) for name in ("input_ids", *_BY_TOKEN) if name in made}
        rows = [{name: one[at, mask[at]].tolist() for name, one in tokens.items()} for at in range(len(pictures))]
        return rows, made


def _padded(rows: list[list[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def _fits(length: int, positions: int, config: ContentEncoder) -> None:
    if length > positions:
        raise InputError(
            f"proxy.encoder.tokens: {config.name} reads {positions} tokens, of which the prompt takes "
            f"{length - config.tokens}; expected at most {positions - length + config.tokens}, got {config.tokens}"
        )
