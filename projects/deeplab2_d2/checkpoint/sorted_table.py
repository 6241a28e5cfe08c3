"""
Sorted string tables, the file format of LevelDB that TensorFlow keeps a checkpoint's index in.

Reference: tensorflow/core/lib/io/table.cc and format.cc; LevelDB's doc/table_format.md.
A file is a row of blocks (data blocks, a meta index, an index of the data blocks), each followed by
one byte of compression type and a masked CRC-32C, and a footer of 48 bytes that says where the
index is.
"""

from typing import Iterator, List, Tuple

from .crc32c import masked_crc32c

_FOOTER_SIZE = 48
_MAGIC = 0xDB4775248B80FB57
# After every block: compression type (1 byte) and checksum (4 bytes).
_TRAILER_SIZE = 5
# Keys share prefixes, and blocks may be named twice: a small file can unfold to any size. Those of
# the largest models take less than a megabyte.
_MAX_BYTES = 32 << 20
_MAX_UNFOLDED = 32 << 20
# Of an entry, beside its bytes.
_ENTRY_COST = 128


class CheckpointFormatError(ValueError):
    """
    A file is not what it should be.

    Attributes:
        path: the file.
        offset: where in it, in bytes.
        reason: what is wrong there.
    """

    def __init__(self, path: str, offset: int, message: str) -> None:
        super().__init__(f"{path}, byte {offset}: {message}")
        self.path = path
        self.offset = offset
        self.reason = message


class ByteReader:
    """Reads numbers from bytes in turn; every error says the byte of the file."""

    def __init__(self, data: bytes, path: str, offset: int = 0) -> None:
        self.position = 0
        self._data = data
        self._path = path
        self._offset = offset

    @property
    def is_done(self) -> bool:
        return self.position >= len(self._data)

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        end = self.position + size
        if size < 0 or end > len(self._data):
            raise self.error(f"{size} bytes expected, {len(self._data) - self.position} left")
        chunk = self._data[self.position : end]
        self.position = end
        return chunk

    def fixed(self, size: int) -> int:
        """A little-endian unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        """A number in groups of seven bits, the lowest first."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.error("a number of more than ten bytes")

    def error(self, message: str) -> CheckpointFormatError:
        return CheckpointFormatError(self._path, self._offset + self.position, message)


def read_sorted_table(path: str) -> List[Tuple[bytes, bytes]]:
    """
    All entries of a table, in the order of their keys.

    Args:
        path: the file. It is read whole: an index is small.

    Raises:
        CheckpointFormatError: if the file is cut short, of another format, or damaged, or unfolds
            to more than any checkpoint's.
    """
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise CheckpointFormatError(
            path, len(data), f"the index of a checkpoint has at most {_MAX_BYTES} bytes"
        )
    start = len(data) - _FOOTER_SIZE
    if start < 0:
        raise CheckpointFormatError(
            path, len(data), f"the file ends; a table has a footer of {_FOOTER_SIZE} bytes"
        )
    footer = ByteReader(data[start:], path, start)
    footer.take(_FOOTER_SIZE - 8)
    if footer.fixed(8) != _MAGIC:
        raise CheckpointFormatError(
            path, len(data) - 8, "no table ends here: the file is cut short or of another format"
        )
    footer.position = 0
    footer.varint(), footer.varint()  # The meta index: TensorFlow leaves it empty.
    index_handle = (footer.varint(), footer.varint())

    entries: List[Tuple[bytes, bytes]] = []
    unfolded = 0
    for _, handle in _block_entries(data, index_handle, path):
        position = ByteReader(handle, path, index_handle[0])
        for key, value in _block_entries(data, (position.varint(), position.varint()), path):
            unfolded += len(key) + len(value) + _ENTRY_COST
            if unfolded > _MAX_UNFOLDED:
                raise CheckpointFormatError(
                    path, 0, f"the entries of the table take more than {_MAX_UNFOLDED} bytes"
                )
            entries.append((key, value))
    keys = [key for key, _ in entries]
    if keys != sorted(set(keys)):
        raise CheckpointFormatError(path, 0, "the keys of the table are not in order")
    return entries


def _block_entries(
    data: bytes, handle: Tuple[int, int], path: str
) -> Iterator[Tuple[bytes, bytes]]:
    offset, size = handle
    if offset + size + _TRAILER_SIZE > len(data) - _FOOTER_SIZE:
        raise CheckpointFormatError(path, offset, f"a block of {size} bytes exceeds the file")
    trailer = ByteReader(data[offset + size : offset + size + _TRAILER_SIZE], path, offset + size)
    compression = trailer.fixed(1)
    if trailer.fixed(4) != masked_crc32c(data[offset : offset + size + 1]):
        raise CheckpointFormatError(path, offset, f"the checksum of a block of {size} is wrong")
    if compression != 0:
        raise CheckpointFormatError(
            path, offset + size, f"compression {compression}; TensorFlow's indices have none"
        )
    num_restarts = ByteReader(data[offset + size - 4 : offset + size], path, offset).fixed(4)
    end = size - 4 - 4 * num_restarts
    if end < 0:
        raise CheckpointFormatError(path, offset, f"{num_restarts} restarts exceed their block")
    block = ByteReader(data[offset : offset + end], path, offset)
    key = b""
    while not block.is_done:
        num_shared, num_own, value_size = block.varint(), block.varint(), block.varint()
        if num_shared > len(key):
            raise block.error("a key shares more with the one before than that has")
        key = key[:num_shared] + block.take(num_own)
        yield key, block.take(value_size)
