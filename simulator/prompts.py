"""The question to the judge as token ids, in ColdLLM's words (section 4.2.2, prompt design), history first, item last:

    Given the user watched the movies "Heat (1995)", "Ronin (1998)", determine whether the user will watch the movie
    "Alien (1979). Horror, Sci-Fi" by answering Yes or No.
    Answer:

The last line is ours: after it the answer is one word. All that comes before the item's text is the context, and equal,
token by token, in all questions about one user.

Titles and texts are anybody's, and each is a field in double quotes. Promised: every part is tokenised on its own, so
the tokens of a question are those of the fixed parts above with the fields' between them, whatever a field says; of a
field's own no token is special, none is a line break or a control character, and none is a double quote of any
alphabet (they become single ones), so no field can end itself, open another, or write the question's own end. Cutting a
field at its budget breaks none of this. What in a field talks to the model, and is known to, is taken out of it. Not
promised: that a model is deaf to the rest of what is said inside the quotes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recsys.config_simulator import Prompt
from recsys.data.template import CHARACTERS
from recsys.errors import InputError
from simulator.untrusted import legible, without_orders

ANSWERS = ("Yes", "No")
_QUOTES = str.maketrans(dict.fromkeys('"“”„‟«»″‶〃〝〞〟＂❝❞🙶🙷🙸', "'"))

Ids = list[int]


@dataclass(frozen=True)
class Wording:
    """Token ids of the parts of a question that are the same in all of them.

    Attributes:
        opening: before the first item of the history.
        between: between two of them.
        asking: between the last one and the item.
        unknown: before the item, of a user without a history.
        closing: after the item.
        answers: (yes, no), the one token of each that follows `closing`.
    """

    opening: Ids
    between: Ids
    asking: Ids
    unknown: Ids
    closing: Ids
    answers: tuple[int, int]

    def longest(self, config: Prompt) -> int:
        """Tokens of a question whose every field is as long as the config lets it be."""
        between = len(self.between)
        told = len(self.opening) + config.history * (config.history_tokens + between) - between + len(self.asking)
        return max(told, len(self.unknown)) + config.tokens + len(self.closing)


def wording(tokenizer: Any, config: Prompt) -> Wording:
    """The config's question by a transformers tokenizer; it begins as this tokenizer begins a text.

    Raises:
        InputError: an answer is not one token of its own.
    """
    given, ask = f"Given the user {config.did} the {config.items}", f"determine whether the user will {config.do} the"
    closing = '" by answering Yes or No.\nAnswer:'
    parts = [f'{given} "', '", "', f'", {ask} {config.item} "', f'{given} none, {ask} {config.item} "', closing]
    opening, between, asking, unknown, end = _ids(tokenizer, parts)
    begin = start(tokenizer)
    return Wording(begin + opening, between, asking, begin + unknown, end, _answers(tokenizer, closing))


def start(tokenizer: Any) -> Ids:
    """The token that the tokenizer begins every text with, if it has one."""
    begin = tokenizer.bos_token_id
    return [begin] if begin is not None and begin in tokenizer("")["input_ids"] else []


def clean(text: str) -> str:
    """The text in one line, as it stands in a field: no control or invisible character, no double quote, nothing that
    talks to the model (`simulator.untrusted`), and no full stop at its end, which is no reason to say yes.
    """
    return without_orders(legible(text).translate(_QUOTES)).rstrip(" .,;:")


def fields(tokenizer: Any, texts: Sequence[str], tokens: int) -> list[Ids]:
    """Token ids of n cleaned texts, each cut at its first `tokens`; none is a token that the tokenizer was given beside
    its vocabulary, special or not.
    """
    if not texts:
        return []
    told = [clean(text[: CHARACTERS * tokens]) for text in texts]
    tokenizer.truncation_side = "right"
    added = tokenizer.added_tokens_decoder
    found = _ids(tokenizer, told, truncation=True, max_length=tokens)
    return [[one for one in ids if one not in added] for ids in found]


def context(words: Wording, history: Sequence[Ids]) -> Ids:
    """The shared part of all questions about a user with these fields as history, which may be empty."""
    if not history:
        return list(words.unknown)
    ids = list(words.opening)
    for at, one in enumerate(history):
        ids += words.between + one if at else one
    return ids + words.asking


def question(words: Wording, item: Ids) -> Ids:
    """The rest of the question, about the item of this field."""
    return item + words.closing


def _ids(tokenizer: Any, texts: list[str], **options: Any) -> list[Ids]:
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True, **options)["input_ids"]


def _answers(tokenizer: Any, closing: str) -> tuple[int, int]:
    before, *whole = _ids(tokenizer, [closing, *(f"{closing} {answer}" for answer in ANSWERS)])
    for answer, ids in zip(ANSWERS, whole, strict=True):
        if ids[:-1] != before:
            raise InputError(f"simulator.judge.name: expected a tokenizer to which the answer {answer!r} is one token")
    return whole[0][-1], whole[1][-1]
