"""Images as tensors: uint8, height by width by three (red, green, blue).

PNG with eight bits per channel is read here; other formats are left to Pillow, if installed.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torchlink.errors import FileError, MalformedFileError
from torchlink.model.stored import InlineTensor
from torchlink.shown import visible
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 64 << 20  # bytes of an image that is unpacked
CHANNELS = {
    0: 1,
    2: 3,
    3: 1,
    4: 2,
    6: 4,
}  # by PNG's colour type: grey, RGB, palette, grey and alpha, RGB and alpha
PALETTE = 3
FORMATS = {
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
HINT = "Give a PNG with 8 bits per channel, or install Pillow in torchlink's environment: pip install Pillow"


def image_of_base64(text: str, source: str) -> InlineTensor:
    """The image whose file is written in base64; `source` names it in messages.

    Raises:
        MalformedFileError: not base64, not an image, or of an unsupported format.
    """
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedFileError(
            f"{source}: not base64.", hint="Encode the bytes of the image's file."
        ) from error
    return _image(data, source)


def is_image(head: bytes) -> bool:
    """Whether a file begins like an image."""
    return head.startswith((PNG, *FORMATS))


def read_image(path: Path) -> InlineTensor:
    """The pixels of an image's file.

    Raises:
        FileError: it cannot be read.
        MalformedFileError: it is damaged, too large or of an unsupported format.
    """
    source = visible(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        not_about_the_file(path, error)
        raise FileError(
            f"Cannot read {source}: {error.strerror or error}.", hint="Check the path."
        ) from error
    if len(data) > LARGEST:
        raise MalformedFileError(f"{source}: an image of more than 64 MB.", hint=HINT)
    return _image(data, source)


def _image(data: bytes, source: str) -> InlineTensor:
    try:
        return _png(data) if data.startswith(PNG) else _other(data)
    except (MalformedFileError, NotImplementedError) as error:
        raise MalformedFileError(f"{source}: {error}.", hint=HINT) from error
    except (zlib.error, struct.error, IndexError, ValueError) as error:
        raise MalformedFileError(f"{source}: a damaged PNG image.", hint=HINT) from error


def _other(data: bytes) -> InlineTensor:
    """An image of another format, as Pillow reads it."""
    import io

    name = next((name for magic, name in FORMATS.items() if data.startswith(magic)), "")
    if not name:
        raise MalformedFileError("not an image of a known format")
    try:
        Image: Any = import_module("PIL.Image")  # noqa: N806 - it is the module's name
    except ImportError:
        raise MalformedFileError(f"a {name} image, which only Pillow reads") from None
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height * 3 > LARGEST:
                raise MalformedFileError(f"an image of {image.width}x{image.height} pixels is too large")
            pixels = image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise MalformedFileError(f"a damaged {name} image") from error
    return InlineTensor("uint8", (pixels.height, pixels.width, 3), pixels.tobytes())


def _png(data: bytes) -> InlineTensor:
    """A PNG image (its specification: chunks, filters)."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR":
        raise ValueError
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if depth != 8 or interlaced:
        return _other_png(data)
    channels = CHANNELS[color]
    row = width * channels
    if width * height * max(channels, 3) > LARGEST:
        raise MalformedFileError(f"an image of {width}x{height} pixels is too large")
    packed = b"".join(content for kind, content in chunks if kind == b"IDAT")
    unpacked = zlib.decompressobj().decompress(packed, (row + 1) * height + 1)
    if len(unpacked) != (row + 1) * height or not unpacked:
        raise ValueError
    pixels = b"".join(_rows(unpacked, row, channels))
    palette = next((content for kind, content in chunks if kind == b"PLTE"), b"")
    return InlineTensor("uint8", (height, width, 3), _rgb(pixels, color, palette))


def _other_png(data: bytes) -> InlineTensor:
    if find_spec("PIL") is None:
        raise MalformedFileError("a PNG that is interlaced or not of 8 bits per channel")
    FORMATS[PNG] = "PNG"
    return _other(data)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's name and content."""
    at = len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _rows(unpacked: bytes, row: int, step: int) -> Iterator[bytearray]:
    """The rows of an image with their filters undone."""
    above = bytearray(row)
    for start in range(0, len(unpacked), row + 1):
        kind, line = unpacked[start], bytearray(unpacked[start + 1 : start + 1 + row])
        if kind > 4:
            raise ValueError
        if kind == 1:
            for i in range(step, row):
                line[i] = (line[i] + line[i - step]) & 255
        elif kind == 2:
            line = bytearray((one + other) & 255 for one, other in zip(line, above, strict=True))
        elif kind:
            for i in range(row):
                left, corner = (line[i - step], above[i - step]) if i >= step else (0, 0)
                near = (left + above[i]) // 2 if kind == 3 else _paeth(left, above[i], corner)
                line[i] = (line[i] + near) & 255
        yield line
        above = line


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda each: abs(guess - each))


def _rgb(pixels: bytes, color: int, palette: bytes) -> bytes:
    """Three bytes per pixel; transparency is ignored."""
    channels = CHANNELS[color]
    if color == PALETTE:
        return b"".join(_three(palette, 3 * index) for index in pixels)
    first, second, third = (0, 1, 2) if channels > 2 else (0, 0, 0)
    made = bytearray(3 * (len(pixels) // channels))
    for place, channel in enumerate((first, second, third)):
        made[place::3] = pixels[channel::channels]
    return bytes(made)


def _three(palette: bytes, at: int) -> bytes:
    if at + 3 > len(palette):
        raise IndexError
    return palette[at : at + 3]
