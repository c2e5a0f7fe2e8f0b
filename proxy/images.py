"""Images from outside, opened with care: bounded before they are decoded, and in no format that runs programs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Literal

from PIL import Image, ImageOps

from recsys.config_proxy import ContentEncoder

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are read. Others are refused: Pillow hands some of them, such as EPS, to other programs."""

Fault = Literal["too large", "broken"]


def fault(data: bytes, config: ContentEncoder) -> Fault | None:
    """What is wrong with an encoded image, None if nothing is.

    "too large" is told by the file's size and header alone: nothing of such an image is decoded. "broken" is whatever
    Pillow cannot decode to its last row.
    """
    if len(data) > config.image_bytes:
        return "too large"
    try:
        with _opened(data) as image:
            if image.width * image.height > config.image_pixels:
                return "too large"
            _upright(image, config.image_side)
    except Image.DecompressionBombError:
        return "too large"
    except Exception:  # Pillow's decoders raise whatever their format makes them: struct.error, SyntaxError, zlib.error
        return "broken"
    return None


def decode(data: bytes, side: int) -> Image.Image:
    """A sound image (see `fault`) as RGB, upright, its longer side at most `side` pixels; of a film its first frame."""
    with _opened(data) as image:
        upright = _upright(image, side)
    upright.thumbnail((side, side))
    return upright


def _upright(image: Image.Image, side: int) -> Image.Image:
    image.draft("RGB", (side, side))
    image.load()
    turned = image
    with suppress(Exception):  # of metadata that cannot be read; the picture can
        turned = ImageOps.exif_transpose(image)
    return turned.convert("RGB")


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        # Of odd metadata, and of sizes at Pillow's own bound where the caller has one.
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            yield image
