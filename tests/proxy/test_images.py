"""Images from outside: bounded before they are decoded, sound ones as RGB and upright."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from proxy import images
from recsys.config_proxy import ContentEncoder
from tests.proxy.pictures import bomb, jpeg, png

CONFIG = ContentEncoder(kind="vision", image_bytes=100_000, image_pixels=1_000_000)


def test_a_file_of_50_megabytes_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(Image, "open", opened)
    assert images.fault(bytes(50_000_000), ContentEncoder(kind="vision")) == "too large"


@pytest.mark.parametrize("side", [1001, 10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    """The last is beyond Pillow's own bound too. Within the config's, the same file is decoded and found broken."""
    assert images.fault(bomb(side, side), CONFIG) == "too large"
    assert images.fault(bomb(1000, 1000), CONFIG) == "broken"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        png(9, 9)[:-30],
        jpeg(300, 300)[:2000],
        png(9, 9)[:20] + b"\xff" * 9 + png(9, 9)[29:],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "wrong header", "EPS", "SVG"],
)
def test_a_broken_file_and_a_format_that_runs_programs_are_told(data: bytes) -> None:
    assert images.fault(data, CONFIG) == "broken"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_sound_image_is_decoded_as_rgb_and_shrunk(kind: str) -> None:
    file = BytesIO()
    Image.new("L", (400, 200), 77).save(file, kind)
    assert images.fault(file.getvalue(), CONFIG) is None
    found = images.decode(file.getvalue(), 100)
    assert (found.mode, found.size) == ("RGB", (100, 50))
    assert np.abs(np.asarray(found, np.int64) - 77).max() <= 2
    assert images.decode(file.getvalue(), 1000).size == (400, 200)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_metadata_that_cannot_be_read_leaves_the_picture(kind: str) -> None:
    file = BytesIO()
    Image.new("RGB", (40, 20), (9, 9, 9)).save(file, kind, exif=b"Exif\0\0garbage")
    assert images.fault(file.getvalue(), CONFIG) is None
    assert images.decode(file.getvalue(), 100).size == (40, 20)


def test_a_photograph_taken_upright_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    file = BytesIO()
    Image.new("RGB", (40, 20)).save(file, "JPEG", exif=exif)
    assert images.decode(file.getvalue(), 100).size == (20, 40)
