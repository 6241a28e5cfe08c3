"""A stream of images without anything between them, as a pipe carries a video."""

import re
from io import BufferedIOBase
from typing import Iterator, Optional

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_JPEG_START = b"\xff\xd8"
# Within the coded pixels of a JPEG, a marker that is neither a stuffed byte nor a restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SCAN, _END = 0xDA, 0xD9
_READ_SIZE = 1 << 16


def split_images(stream: BufferedIOBase) -> Iterator[bytes]:
    """
    The files of a stream of concatenated JPEGs or PNGs, such as Motion JPEG.

    ``ffmpeg -i VIDEO -f image2pipe -c:v mjpeg -`` (or ``-c:v png``) writes one.

    Args:
        stream: is read no further than what it has to give is needed for the next image.

    Raises:
        ValueError: if something else stands in it, or if it ends within an image.
    """
    data, index = _Lookahead(stream), 0
    while data.reach(1):
        data.source = f"image {index} of the stream"
        if data.reach(2) and data.bytes.startswith(_JPEG_START):
            yield data.take(_jpeg_length(data))
        elif data.reach(8) and data.bytes.startswith(_PNG_START):
            yield data.take(_png_length(data))
        else:
            raise ValueError(
                f"{data.source} must be a JPEG or a PNG, it begins with {bytes(data.bytes[:8])!r}"
            )
        index += 1


class _Lookahead:
    """What has been read of a stream and not been taken."""

    def __init__(self, stream: BufferedIOBase):
        # A pipe gives what it has; to ask for a number of bytes would wait for later images.
        self._read = stream.read1
        self.bytes = bytearray()
        self.source = "the stream"

    def reach(self, length: int) -> bool:
        """Whether the stream goes on for so many bytes."""
        while len(self.bytes) < length:
            block = self._read(_READ_SIZE)
            if not block:
                return False
            self.bytes += block
        return True

    def need(self, length: int) -> None:
        if not self.reach(length):
            raise ValueError(f"{self.source} must be whole, the stream ends within it")

    def number(self, start: int, length: int) -> int:
        """A big-endian number."""
        self.need(start + length)
        return int.from_bytes(self.bytes[start : start + length], "big")

    def take(self, length: int) -> bytes:
        self.need(length)
        taken = bytes(self.bytes[:length])
        del self.bytes[:length]
        return taken


def _png_length(data: _Lookahead) -> int:
    """Chunks are a length, a name, so many bytes and a checksum of four."""
    position = len(_PNG_START)
    while True:
        length = data.number(position, 4)
        data.need(position + 8)
        name = data.bytes[position + 4 : position + 8]
        position += length + 12
        if name == _PNG_END:
            return position


def _jpeg_length(data: _Lookahead) -> int:
    """Segments are a marker and a length, that counts itself; pixels follow some of them."""
    position = len(_JPEG_START)
    while True:
        while data.number(position, 1) == 0xFF and data.number(position + 1, 1) == 0xFF:
            position += 1  # Markers may be padded.
        if data.number(position, 1) != 0xFF:
            raise ValueError(f"{data.source} must be a JPEG, a marker is missing in it")
        marker = data.number(position + 1, 1)
        if marker == _END:
            return position + 2
        position += 2 + data.number(position + 2, 2)
        if marker == _SCAN:
            position = _find_marker(data, position)


def _find_marker(data: _Lookahead, position: int) -> int:
    """Where the coded pixels that begin at a position end."""
    found: Optional[re.Match] = None
    while found is None:
        found = _MARKER.search(data.bytes, position)
        if found is None:
            # The last byte may be the first of a marker.
            position = max(position, len(data.bytes) - 1)
            data.need(len(data.bytes) + 1)
    return found.start()
