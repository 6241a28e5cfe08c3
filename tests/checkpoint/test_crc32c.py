import numpy as np
import pytest

from deeplab2_d2.checkpoint.crc32c import crc32c, masked_crc32c


def bit_by_bit(data):
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    "data, checksum",
    [  # RFC 3720, section B.4, and the polynomial's usual check value
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_examples(data, checksum):
    assert crc32c(data) == checksum


@pytest.mark.parametrize("size", [1, 2, 3, 16383, 16384, 16385, 50001])
def test_every_length_equals_the_definition(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32c(data) == crc32c(data.tobytes()) == bit_by_bit(data.tobytes())


def test_lanes_equal_the_join_of_parts():
    # Beyond a megabyte there are more lanes. One flipped bit anywhere changes the checksum.
    data = np.random.default_rng(0).integers(0, 256, (1 << 20) + 13, dtype=np.uint8)
    checksum = crc32c(data)
    for position in (0, 4095, data.size - 1):
        changed = data.copy()
        changed[position] ^= 1
        assert crc32c(changed) != checksum
    zeros_in_front = np.concatenate([np.zeros(5, np.uint8), data])
    assert crc32c(zeros_in_front) != checksum


def test_mask_is_leveldbs():
    # crc32c("foo") = 0xCFC4AE1D; rotated right by 15 bits: 0x5C3B9F89; plus 0xA282EAD8.
    assert crc32c(b"foo") == 0xCFC4AE1D
    assert masked_crc32c(b"foo") == (0x5C3B9F89 + 0xA282EAD8) & 0xFFFFFFFF


def test_wrong_type_is_named():
    with pytest.raises(ValueError, match="uint8, got .* float32"):
        crc32c(np.zeros(3, np.float32))
