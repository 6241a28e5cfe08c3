"""
CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, in numpy.

The register of a CRC is linear over GF(2) in its state and its input: long inputs are cut into
lanes that advance together, and the lanes' registers are joined by "advance by n zero bytes"
matrices: some hundred megabytes a second.
"""

from functools import lru_cache
from typing import Tuple, Union

import numpy as np

# The polynomial with its bits reversed: the register shifts towards bit 0.
_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
# Below this many bytes a plain loop is faster than lanes.
_SHORT = 16384

Bytes = Union[bytes, memoryview, np.ndarray]


def crc32c(data: Bytes) -> int:
    """
    Checksum of bytes.

    Args:
        data: bytes, or a one-dimensional uint8 array.
    """
    array = np.frombuffer(data, dtype=np.uint8) if not isinstance(data, np.ndarray) else data
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"crc32c: data must be (N,) uint8, got {array.shape} {array.dtype}")
    size = array.size
    register = _short_register(array) if size < _SHORT else _long_register(array)
    # The register started at 0 instead of all ones: their difference is what ones become.
    return register ^ int(_apply(_advance(size), np.array(_ONES, np.uint32))) ^ _ONES


def masked_crc32c(data: Bytes) -> int:
    """The checksum as TensorFlow and LevelDB store it: rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _ONES


def _short_register(array: np.ndarray) -> int:
    table = _two_byte_table()
    register = 0
    if array.size % 2:
        array = np.concatenate([np.zeros(1, np.uint8), array])  # Zeros in front change nothing.
    for word in array.view("<u2").tolist():
        register = table[(register ^ word) & 0xFFFF] ^ (register >> 16)
    return register


def _long_register(array: np.ndarray) -> int:
    lanes = 1024 if array.size < 1 << 20 else 4096
    padding = -array.size % (4 * lanes)
    padded = np.concatenate([np.zeros(padding, np.uint8), array])
    words = padded.view("<u4").reshape(lanes, -1)
    low, high = _four_byte_tables()
    registers = np.zeros(lanes, np.uint32)
    for column in range(words.shape[1]):
        halves = (registers ^ words[:, column]).view("<u2")
        registers = low.take(halves[0::2], mode="clip") ^ high.take(halves[1::2], mode="clip")
    lane_bytes = 4 * words.shape[1]
    while registers.size > 1:
        registers = _apply(_advance(lane_bytes), registers[0::2]) ^ registers[1::2]
        lane_bytes *= 2
    return int(registers[0])


def _apply(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """Product of a (32,) matrix, a column per bit, with registers of any shape."""
    result = np.zeros_like(registers)
    for bit in range(32):
        result = result ^ (((registers >> np.uint32(bit)) & np.uint32(1)) * matrix[bit])
    return result


@lru_cache(maxsize=None)
def _advance_one() -> np.ndarray:
    columns = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    for _ in range(8):
        columns = (columns >> np.uint32(1)) ^ ((columns & np.uint32(1)) * np.uint32(_POLYNOMIAL))
    return columns


@lru_cache(maxsize=1024)
def _advance(num_bytes: int) -> np.ndarray:
    """The matrix that takes a register over this many zero bytes."""
    result = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    power = _advance_one()
    while num_bytes:
        if num_bytes & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        num_bytes >>= 1
    return result


@lru_cache(maxsize=None)
def _two_byte_table() -> Tuple[int, ...]:
    return tuple(_apply(_advance(2), np.arange(1 << 16, dtype=np.uint32)).tolist())


@lru_cache(maxsize=None)
def _four_byte_tables() -> Tuple[np.ndarray, np.ndarray]:
    half = np.arange(1 << 16, dtype=np.uint32)
    return _apply(_advance(4), half), _apply(_advance(4), half << np.uint32(16))
