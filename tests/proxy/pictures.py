"""Image files: sound ones, and those that nobody should decode."""

import struct
import zlib
from io import BytesIO

from PIL import Image


def png(width: int, height: int, colour: str = "red") -> bytes:
    """A sound one of a single colour."""
    return _encoded(Image.new("RGB", (width, height), colour), "PNG")


def jpeg(width: int, height: int) -> bytes:
    """A sound one with something to see: a gradient."""
    return _encoded(Image.linear_gradient("L").resize((width, height)).convert("RGB"), "JPEG")


def bomb(width: int, height: int) -> bytes:
    """A header that promises width x height pixels and holds none of them: to decode it is to find it broken."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b"no pixels"), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _encoded(image: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()
