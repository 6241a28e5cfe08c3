"""A small writer of TensorFlow's checkpoint format: what the tests read, and break."""

import struct
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from deeplab2_d2.checkpoint.crc32c import masked_crc32c

MAGIC = 0xDB4775248B80FB57
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
TYPES = {np.dtype("float32"): 1, np.dtype("int64"): 9, np.dtype("float16"): 19}


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(array: np.ndarray, shard: int, offset: int) -> bytes:
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    out = field(1, TYPES[array.dtype]) + field(2, shape) + field(3, shard) + field(4, offset)
    out += field(5, array.nbytes)
    return out + varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(array.tobytes()))


def block(entries: List[Tuple[bytes, bytes]]) -> bytes:
    """A block whose keys share prefixes, with one restart."""
    out, previous = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        previous = key
    out += struct.pack("<II", 0, 1) + b"\0"
    return out + struct.pack("<I", masked_crc32c(out))


def table(entries: List[Tuple[bytes, bytes]], block_size: int = 3) -> bytes:
    out, index = b"", []
    for start in range(0, len(entries), block_size):
        part = entries[start : start + block_size]
        data = block(part)
        index.append((part[-1][0] + b"\x01", varint(len(out)) + varint(len(data) - 5)))
        out += data
    handles = b""
    for data in (block([]), block(index)):
        handles += varint(len(out)) + varint(len(data) - 5)
        out += data
    return out + handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def write_bundle(prefix: Path, arrays: Dict[str, np.ndarray], num_shards: int = 1) -> None:
    """Write arrays, whose keys are complete, over ``num_shards`` files in turn."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    shards = [bytearray() for _ in range(num_shards)]
    header = field(1, num_shards) + field(3, field(1, 1))
    entries = [(b"", header)]
    for i, key in enumerate(sorted(arrays)):
        shard, array = i % num_shards, np.asarray(arrays[key], order="C")
        entries.append((key.encode(), entry(array, shard, len(shards[shard]))))
        shards[shard] += array.tobytes()
    Path(f"{prefix}.index").write_bytes(table(entries))
    for shard, data in enumerate(shards):
        Path(f"{prefix}.data-{shard:05d}-of-{num_shards:05d}").write_bytes(data)


def write_checkpoint(folder: Path, variables: Dict[str, np.ndarray], name: str = "ckpt-1") -> Path:
    """A folder as ``tf.train.CheckpointManager`` leaves it; its prefix is returned."""
    arrays = {key + SUFFIX: value for key, value in variables.items()}
    arrays["save_counter" + SUFFIX] = np.array(1, np.int64)
    write_bundle(folder / name, arrays)
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')
    return folder / name
