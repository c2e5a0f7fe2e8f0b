"""InternVL, the paper's encoder, through its own processor."""

from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from proxy import encoder
from proxy.content import Content
from recsys.config_proxy import ContentEncoder
from tests.proxy import models
from tests.proxy.pictures import png

try:
    import_module("torchvision")
except Exception as error:  # not there, or built for another torch
    pytest.skip(f"InternVL's processor needs torchvision: {error}", allow_module_level=True)


def test_internvl_reads_text_and_image(tmp_path: Path) -> None:
    made = encoder.load(ContentEncoder(kind="vision", name=str(models.internvl(tmp_path)), bf16=False))
    whole = Content(pa.array([1, 2, 3]), ["toys", "toys", ""], [png(40, 60), None, png(100, 30)])
    with torch.no_grad():
        together = made(made.collate(whole), layers=True)
        assert together.last.shape[2] == models.WIDTH and len(together.layers) == made.depth == models.LAYERS
        for row in range(3):
            one = made(made.collate(whole.take([row])))
            length = one.last.shape[1]
            torch.testing.assert_close(together.last[row, :length], one.last[0], atol=1e-5, rtol=1e-4)
        seen, other = (
            made(made.collate(Content(pa.array([1]), ["toys"], [png(40, 60, name)]))).last for name in ("red", "blue")
        )
    assert not torch.allclose(seen[:, -1], other[:, -1])
