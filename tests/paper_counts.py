"""
Multiply-adds of networks of the papers that are not those which DeepLab2 released, by hand.

The same formulas with DeepLab2's choices give the count of our networks, which
tests/backbones/test_multiply_adds.py checks.
"""

from typing import Tuple

Size = Tuple[int, int]


def count_pixels(size: Size, stride: int) -> int:
    """Of a feature map of an image of (height, width)."""
    return ((size[0] - 1) // stride + 1) * ((size[1] - 1) // stride + 1)


def _bottleneck(
    in_channels: int, width: int, pixels: Tuple[int, int, int], has_shortcut: bool
) -> int:
    """``pixels`` where the 1x1, the 3x3 and the shortcut are computed."""
    first, second, shortcut = pixels
    count = in_channels * width * first + (9 + 4) * width * width * second
    return count + (in_channels * 4 * width * shortcut if has_shortcut else 0)


def count_resnet50(size: Size, *, has_strides_last: bool) -> int:
    """
    Stages of a ResNet-50 at output stride 16, without the stem.

    Args:
        has_strides_last: with max-pooling before the first stage, and strides in the 3x3 of a
            stage's last block, as TensorFlow-slim's (whose stem has 128 channels). If not, in that
            of its first block, as DeepLab2's.
    """
    count, channels = 0, 128 if has_strides_last else 64
    strides = ((4, 8), (8, 16), (16, 16), (16, 16)) if has_strides_last else (
        (2, 4), (4, 8), (8, 16), (16, 16))  # fmt: skip
    for (before, after), width, blocks in zip(strides, (64, 128, 256, 512), (3, 4, 6, 3)):
        changing = blocks - 1 if has_strides_last else 0
        for index in range(blocks):
            is_early = index <= changing if has_strides_last else index == 0
            first = count_pixels(size, before if is_early else after)
            second = count_pixels(size, before if index < changing else after)
            count += _bottleneck(channels, width, (first, second, second), index == 0)
            channels = 4 * width
    return count


def count_hrnet_first_stage(size: Size) -> int:
    """HRNet's four bottlenecks of width 64 at stride 4, and the 3x3 from them to 48 channels."""
    pixels = count_pixels(size, 4)
    count = _bottleneck(64, 64, (pixels, pixels, pixels), has_shortcut=True)
    count += 3 * _bottleneck(256, 64, (pixels, pixels, pixels), has_shortcut=False)
    return count + 9 * 256 * 48 * pixels


def count_stem(size: Size, *, is_inception: bool) -> int:
    """One 7x7 to 64 channels; or three 3x3, to 64, 64 and 128."""
    weights = 9 * (3 * 64 + 64 * 64 + 64 * 128) if is_inception else 7 * 7 * 3 * 64
    return weights * count_pixels(size, 2)


def count_pooling(size: Size, stride: int, window: int) -> int:
    """A mean over windows that slide over the map of a stride, for a channel."""
    height, width = ((side - 1) // stride + 1 for side in size)
    return window * window * (height - window + 1) * (width - window + 1)


def count_aspp_branches(channels: int, *, is_separable: bool) -> int:
    """The three 3x3 branches to 256 channels, for a pixel."""
    return 3 * channels * (9 + 256 if is_separable else 9 * 256)


def _axial_block(
    in_channels: int, width: int, pixels: Tuple[int, int, int], lengths: Size, span: int
) -> int:
    """
    1x1, attention along the height, along the width, 1x1, and the shortcut.

    Args:
        pixels: before the block, after the rows are subsampled, and after it.
        lengths: of the columns before the block and of its rows.
    """
    before, between, after = pixels
    count = in_channels * 2 * width * before + 2 * width * 4 * width * after
    for positions, length in ((before, lengths[0]), (between, lengths[1])):
        # Queries, keys and twice as many values; three similarities, two kinds of values.
        count += positions * (2 * width * 4 * width + (3 + 2 * 2) * width * min(length, span))
    return count + (in_channels * 4 * width * after if in_channels != 4 * width else 0)


def count_axial_deeplab_l(side: int, *, has_pooling: bool, span: int) -> int:
    """The backbone at output stride 16, with or without max-pooling before its first stage."""
    count = count_stem((side, side), is_inception=True)
    channels = 128
    strides = ((4 if has_pooling else 2, 4), (4, 8), (8, 16), (16, 16))
    for (first, last), width, blocks in zip(strides, (64, 128, 256, 512), (3, 4, 6, 3)):
        for index in range(blocks):
            stride = first if index == 0 else last
            length, shorter = (side - 1) // stride + 1, (side - 1) // last + 1
            pixels = (length * length, shorter * length, shorter * shorter)
            count += _axial_block(channels, width, pixels, (length, length), span)
            channels = 4 * width
    return count
