"""
TensorFlow's checkpoints ("tensor bundles", version 2) without TensorFlow.

Reference: tensorflow/core/util/tensor_bundle and core/protobuf/tensor_bundle.proto.
``PREFIX.index`` is a sorted table from a tensor's key to its type, shape and place;
``PREFIX.data-XXXXX-of-YYYYY`` hold the values one after the other.
"""

import math
import os
from dataclasses import dataclass
from typing import Dict, Iterator, List, Tuple, Union

import numpy as np

from .crc32c import masked_crc32c
from .sorted_table import ByteReader, CheckpointFormatError, read_sorted_table

# DataType of tensorflow/core/framework/types.proto. Other types (strings) are listed, but not read.
_DTYPES: Dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    17: np.dtype("<u2"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}


# Those of DeepLab2 have less than 200 characters, and 4 dimensions.
_MAX_KEY, _MAX_RANK = 4096, 32
# Of a tensor, counting dimensions of 0 as 1.
_MAX_NUMBERS = 1 << 48


@dataclass(frozen=True)
class BundleEntry:
    """Type, shape and place of one tensor."""

    dtype: int
    shape: Tuple[int, ...]
    shard: int
    offset: int
    num_bytes: int
    checksum: int

    @property
    def is_readable(self) -> bool:
        return self.dtype in _DTYPES


class TensorBundle:
    """
    A checkpoint, opened for reading. Values are read where they are asked for.

    Args:
        prefix: path of the checkpoint without ``.index``.

    Raises:
        FileNotFoundError: if the index or a shard is missing.
        CheckpointFormatError: if a file is cut short, damaged or of another format.
    """

    def __init__(self, prefix: Union[str, "os.PathLike[str]"]) -> None:
        self.prefix = os.fspath(prefix)
        self._index_path = self.prefix + ".index"
        table = read_sorted_table(self._index_path)
        if not table or table[0][0] != b"":
            raise CheckpointFormatError(self._index_path, 0, "a table, but not of a checkpoint")
        num_shards = self._parse_header(table[0][1])
        self.entries: Dict[str, BundleEntry] = {
            name: self._parse_entry(name, value)
            for name, value in ((self._parse_key(key), value) for key, value in table[1:])
        }
        self._shards: List[str] = []
        self._sizes: List[int] = []
        # One by one: the first that is missing ends it, however many the index promises.
        for shard in range(num_shards):
            path = f"{self.prefix}.data-{shard:05d}-of-{num_shards:05d}"
            if not os.path.isfile(path):
                raise FileNotFoundError(f"{path}: this shard of the checkpoint is missing")
            self._shards.append(path)
            self._sizes.append(os.path.getsize(path))
        for key, entry in self.entries.items():
            self._check_place(key, entry)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def read(self, key: str) -> np.ndarray:
        """
        The values of a tensor, not to be written to. Its checksum is verified.

        Args:
            key: one of ``entries``.

        Raises:
            KeyError: if there is no such tensor.
            TypeError: if its type has no numpy equivalent.
            CheckpointFormatError: if the checksum is wrong, or the file has become shorter.
        """
        if key not in self.entries:
            raise KeyError(f"{self.prefix} has no tensor {key!r}")
        entry = self.entries[key]
        if not entry.is_readable:
            raise TypeError(f"{key} of {self.prefix} has TensorFlow's type {entry.dtype}")
        path = self._shards[entry.shard]
        # Not mapped into memory: where another process cuts a mapped file short, this one dies.
        with open(path, "rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.num_bytes)
            end = os.fstat(file.fileno()).st_size
        if len(data) < entry.num_bytes:
            raise CheckpointFormatError(path, end, f"the file ends in {key}: it is cut short")
        if masked_crc32c(data) != entry.checksum:
            raise CheckpointFormatError(path, entry.offset, f"the checksum of {key} is wrong")
        return np.frombuffer(data, dtype=_DTYPES[entry.dtype]).reshape(entry.shape)

    def _parse_header(self, value: bytes) -> int:
        num_shards = 0
        for field, number in _parse_message(value, self._index_path):
            if field == 1 and isinstance(number, int):
                num_shards = number
            elif field == 2 and number != 0:
                raise CheckpointFormatError(self._index_path, 0, "written on a big-endian machine")
        if num_shards < 1:
            raise CheckpointFormatError(self._index_path, 0, f"{num_shards} shards")
        return num_shards

    def _parse_key(self, key: bytes) -> str:
        try:
            name = key.decode("utf-8")
        except UnicodeDecodeError:
            name = "\0"
        if not name.isprintable() or not 0 < len(key) <= _MAX_KEY:
            reason = f"a key must be a word of at most {_MAX_KEY} bytes, got {key[:80]!r}"
            raise CheckpointFormatError(self._index_path, 0, reason)
        return name

    def _parse_entry(self, key: str, value: bytes) -> BundleEntry:
        numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
        shape: List[int] = []
        for field, content in _parse_message(value, self._index_path):
            if field == 2 and isinstance(content, bytes):
                shape = _parse_shape(content, self._index_path)
            elif field == 7:
                raise CheckpointFormatError(
                    self._index_path, 0, f"{key} is stored in slices, which are not read"
                )
            elif field in numbers and isinstance(content, int):
                numbers[field] = content
        if len(shape) > _MAX_RANK or math.prod(max(n, 1) for n in shape) > _MAX_NUMBERS:
            got = f"{shape[:_MAX_RANK]}{' and more' * (len(shape) > _MAX_RANK)}"
            reason = f"{key} must have at most {_MAX_RANK} dimensions and 2**48 numbers, got {got}"
            raise CheckpointFormatError(self._index_path, 0, reason)
        return BundleEntry(
            dtype=numbers[1],
            shape=tuple(shape),
            shard=numbers[3],
            offset=numbers[4],
            num_bytes=numbers[5],
            checksum=numbers[6],
        )

    def _check_place(self, key: str, entry: BundleEntry) -> None:
        if entry.shard >= len(self._shards):
            raise CheckpointFormatError(
                self._index_path, 0, f"{key} is in shard {entry.shard} of {len(self._shards)}"
            )
        available = self._sizes[entry.shard]
        if entry.offset + entry.num_bytes > available:
            raise CheckpointFormatError(
                self._shards[entry.shard],
                available,
                f"the file ends, but {key} takes bytes {entry.offset} to "
                f"{entry.offset + entry.num_bytes}: the checkpoint is cut short",
            )
        if entry.is_readable:
            size = math.prod(entry.shape) * _DTYPES[entry.dtype].itemsize
            if size != entry.num_bytes:
                raise CheckpointFormatError(
                    self._index_path, 0, f"{key} {entry.shape} takes {size}, not {entry.num_bytes}"
                )


def _parse_message(data: bytes, path: str) -> Iterator[Tuple[int, Union[int, bytes]]]:
    """Field numbers and values of a protocol buffer, in the order they are written."""
    reader = ByteReader(data, path)
    while not reader.is_done:
        tag = reader.varint()
        field, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            yield field, reader.varint()
        elif wire_type == 1:
            yield field, reader.fixed(8)
        elif wire_type == 2:
            yield field, reader.take(reader.varint())
        elif wire_type == 5:
            yield field, reader.fixed(4)
        else:
            raise reader.error(f"wire type {wire_type} in an entry")


def _parse_shape(data: bytes, path: str) -> List[int]:
    shape = []
    for field, dimension in _parse_message(data, path):
        if field == 2 and isinstance(dimension, bytes):
            sizes = [n for f, n in _parse_message(dimension, path) if f == 1 and isinstance(n, int)]
            shape.append(sizes[0] if sizes else 0)
    return shape
