"""TokenStates states against the encoder's own, and an alignment on them against one without."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from proxy import encoder
from proxy.content import Content
from proxy.frozen import TokenStates
from proxy.loop import Loop
from proxy.model import Aligner
from proxy.targets import TRAIN
from recsys.config_proxy import ContentEncoder
from recsys.distributed import process_group
from tests import tiny
from tests.proxy import planted

TEXTS = ["one", "a much longer text of several words", "two of them", "", "the last one here"]


@pytest.mark.parametrize("bf16", [False, True])
def test_states_are_those_of_the_encoder(tmp_path: Path, bf16: bool) -> None:
    model = encoder.load(ContentEncoder(train="frozen", tokens=8, bf16=bf16))
    content = Content(pa.array(range(len(TEXTS))), TEXTS, [None] * len(TEXTS))
    at = np.array([4, 0, 1, 2])
    kept = TokenStates(model, content, at, 3, tmp_path)
    assert not list(tmp_path.iterdir())
    some = np.array([1, 0, 4])
    found, mask = kept(some)
    with torch.inference_mode():
        states = model(model.collate(content.take(some)))
    assert torch.equal(mask, states.mask)
    expected = states.last.float() * mask.unsqueeze(-1)
    assert found.dtype == (torch.bfloat16 if bf16 else torch.float32)
    # In bfloat16 another padding rounds otherwise.
    near = 0.05 if bf16 else 1e-5
    torch.testing.assert_close(found.float(), expected, rtol=near, atol=near)


def test_an_alignment_on_them_takes_the_same_step(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data", {"train": 20})
    made = tiny.config(tmp_path / "data", tmp_path / "run", proxy={"encoder": {"bf16": False}})
    grads = []
    for kept in (True, False):
        torch.manual_seed(0)
        targets, content = planted.items()
        model = Aligner(planted.encoder().requires_grad_(False), 8, planted.options())
        with process_group() as ranks:
            one = Loop(made, model, targets, content, ranks, tmp_path)
            assert one.frozen
            if kept:
                one.keep()
            loss = one.step(one.targets.of(TRAIN)[:9], seed=1)
        grads.append([loss, *(p.grad for p in model.trained().values())])
    for with_states, without in zip(*grads, strict=True):
        assert with_states is not None and without is not None and with_states.abs().sum() > 0
        torch.testing.assert_close(with_states, without)


def test_what_a_killed_process_leaves_is_swept_away(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data", {"train": 20})
    made = tiny.config(tmp_path / "data", tmp_path / "run", proxy={"encoder": {"bf16": False}})
    left = tmp_path / "align" / ".states.999999999.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    targets, content = planted.items()
    model = Aligner(planted.encoder().requires_grad_(False), 8, planted.options())
    with process_group() as ranks:
        Loop(made, model, targets, content, ranks, left.parent).run()
    assert not list(left.parent.glob(".*"))
