"""
Parameters and multiply-adds beside the papers' figures.

Where a paper's network is not the one that DeepLab2 released, what the paper counts is worked out
by hand. The same formulas with DeepLab2's choices give the count of our network.
"""

from typing import Any, Dict, Sequence, Tuple

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from network_costs import (
    backbone_config,
    backbone_costs,
    max_deeplab_costs,
    panoptic_deeplab_costs,
)

from deeplab2_d2.backbones import build_backbone_by_name
from deeplab2_d2.layers import Norm

Size = Tuple[int, int]
_STREET = (1025, 2049)


def _pixels(size: Size, stride: int) -> int:
    return ((size[0] - 1) // stride + 1) * ((size[1] - 1) // stride + 1)


# MaX-DeepLab (arXiv:2012.00759), Tab. 2, 4 and 5: network, side of the image, changes, parameters
# in millions, multiply-adds in billions.
_MAX_DEEPLAB: Sequence[Tuple[str, int, Dict[str, Any], float, float]] = (
    ("max_deeplab_s", 1025, {}, 61.9, 324),
    ("max_deeplab_l", 1025, {}, 451, 3692),
    ("max_deeplab_wide_resnet41", 641, {}, 196, 746),
    ("max_deeplab_wide_resnet41", 641, {"ATTENTION__AXIAL_BEYOND_STRIDE": 16}, 277, 881),
    ("max_deeplab_wide_resnet41", 1025, {}, 196, 1885),
    ("max_deeplab_wide_resnet41", 1025, {"ATTENTION__AXIAL_BEYOND_STRIDE": 16}, 277, 2235),
    ("max_deeplab_wide_resnet41", 641, {"DECODER__EXTRA_STACKS": 1}, 271, 1085),
    ("max_deeplab_wide_resnet41", 641, {"DECODER__EXTRA_STACKS": 2}, 347, 1425),
    ("max_deeplab_wide_resnet41", 641, {"MEMORY__PIXEL_FEEDBACK": False}, 188, 732),
    ("max_deeplab_wide_resnet41", 641, {"MEMORY__SELF_ATTENTION": False}, 196, 746),
    (
        "max_deeplab_wide_resnet41",
        641,
        {"MEMORY__PIXEL_FEEDBACK": False, "MEMORY__SELF_ATTENTION": False},
        186,
        731,
    ),
    ("max_deeplab_wide_resnet41", 641, {"MEMORY__BEYOND_STRIDE": 8}, 220, 768),
    ("max_deeplab_wide_resnet41", 641, {"MEMORY__BEYOND_STRIDE": 4}, 234, 787),
)


# The small network, the one of the ablations, and that without feedback and self-attention.
_QUICK = (0, 2, 10)


@pytest.mark.parametrize(
    "name, side, changes, millions, billions",
    [
        pytest.param(*row, marks=() if index in _QUICK else pytest.mark.slow)
        for index, row in enumerate(_MAX_DEEPLAB)
    ],
    ids=str,
)
def test_max_deeplab_has_the_papers_costs(
    name: str, side: int, changes: Dict[str, Any], millions: float, billions: float
) -> None:
    parameters, count = max_deeplab_costs(backbone_config(name, **changes), (side, side))
    assert parameters / 1e6 == pytest.approx(millions, rel=0.01)
    assert count / 1e9 == pytest.approx(billions, rel=0.01)


def _bottleneck(
    in_channels: int, width: int, pixels: Tuple[int, int, int], has_shortcut: bool
) -> int:
    """``pixels`` where the 1x1, the 3x3 and the shortcut are computed."""
    first, second, shortcut = pixels
    count = in_channels * width * first + (9 + 4) * width * width * second
    return count + (in_channels * 4 * width * shortcut if has_shortcut else 0)


def _resnet50(size: Size, *, has_strides_last: bool) -> int:
    """
    Stages of a ResNet-50 at output stride 16.

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
            first = _pixels(size, before if is_early else after)
            second = _pixels(size, before if index < changing else after)
            count += _bottleneck(channels, width, (first, second, second), index == 0)
            channels = 4 * width
    return count


def _aspp_branches(channels: int, *, is_separable: bool) -> int:
    """The three 3x3 branches for a pixel."""
    return 3 * channels * (9 + 256 if is_separable else 9 * 256)


def test_panoptic_deeplabs_resnet50_is_slims_with_separable_aspp() -> None:
    stem = 7 * 7 * 3 * 64 * _pixels(_STREET, 2)
    cfg = backbone_config("resnet50")
    backbone = backbone_costs(cfg, _STREET)[1]
    assert stem + _resnet50(_STREET, has_strides_last=False) == backbone
    heads = panoptic_deeplab_costs(cfg, _STREET)[1] - backbone
    both = 2 * _pixels(_STREET, 16)
    heads -= both * _aspp_branches(2048, is_separable=False)
    heads += both * _aspp_branches(2048, is_separable=True)
    # Three 3x3 in the stem, 64, 64 and 128 channels.
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) * _pixels(_STREET, 2)
    count = stem + _resnet50(_STREET, has_strides_last=True) + heads
    assert count / 1e9 == pytest.approx(381.39, rel=0.01)  # arXiv:1911.10194, Tab. 9


def test_panoptic_deeplabs_mobilenet_has_the_reduced_last_block_and_separable_aspp() -> None:
    cfg = backbone_config("mobilenet_v3_large", REDUCED_LAST_BLOCK=True)
    count = panoptic_deeplab_costs(cfg, _STREET)[1]
    both = 2 * _pixels(_STREET, 16)
    count -= both * _aspp_branches(480, is_separable=False)
    count += both * _aspp_branches(480, is_separable=True)
    # The same table. 1.4 % are not explained.
    assert count / 1e9 == pytest.approx(54.17, rel=0.015)


def test_panoptic_deeplabs_second_aspp_has_separable_branches() -> None:
    # arXiv:1911.10194, Tab. 4: the dual ASPP adds 43.37 - 41.93 million parameters. One of 128
    # channels on the 2048 of Xception-71: a 1x1, three separable 3x3, pooling, and the projection.
    weights = 2048 * 128 + 3 * 2048 * (9 + 128) + 2048 * 128 + 5 * 128 * 128
    assert weights / 1e6 == pytest.approx(43.37 - 41.93, rel=0.01)


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


def _axial_deeplab_l(side: int, *, has_pooling: bool, span: int) -> int:
    """The backbone at output stride 16, with or without max-pooling before its first stage."""
    size = (side, side)
    count = 9 * (3 * 64 + 64 * 64 + 64 * 128) * _pixels(size, 2)
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


def test_axial_deeplab_l_of_the_paper_has_pooling_and_a_local_span() -> None:
    cfg = backbone_config("axial_deeplab_l")
    parameters, backbone = backbone_costs(cfg, (1025, 1025))
    assert _axial_deeplab_l(1025, has_pooling=False, span=10**6) == backbone
    for node in (cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER, cfg.MODEL.DEEPLAB2.INSTANCE_DECODER):
        node.ASPP_ONLY_1X1 = True
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 134
    parameters, total = panoptic_deeplab_costs(cfg, (1025, 1025))
    # arXiv:2012.00759, Tab. 2. Pooling and span have no parameters.
    assert parameters / 1e6 == pytest.approx(44.9, rel=0.01)
    count = _axial_deeplab_l(1025, has_pooling=True, span=65) + total - backbone
    assert count / 1e9 == pytest.approx(344, rel=0.01)


@pytest.mark.parametrize("name", ["resnet_tiny", "max_deeplab_tiny", "mobilenet_v3_small"])
def test_fvcore_counts_the_same_convolutions_and_matrix_products(name: str) -> None:
    backbone = build_backbone_by_name(name, norm=Norm("BN"), output_stride=16).eval()
    analysis = FlopCountAnalysis(backbone, torch.zeros(1, 3, 65, 97))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    products = ("conv", "matmul", "bmm", "einsum", "addmm", "linear")
    found = sum(count for operator, count in analysis.by_operator().items() if operator in products)
    expected = backbone_costs(backbone_config(name), (65, 97))[1]
    assert found == pytest.approx(expected, rel=1e-3)
