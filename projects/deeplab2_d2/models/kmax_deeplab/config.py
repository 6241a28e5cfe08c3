"""Defaults of kMaX-DeepLab's config keys, and their checks."""

from typing import Any, Sequence

from detectron2.config import CfgNode

from ...config import require, require_one_of
from ..max_deeplab import RECORD as MAX_RECORD

_PREFIX = "MODEL.DEEPLAB2.KMAX_DEEPLAB."
_NUM_STAGES = 5
_NUM_HEADS = 8


def add_config(cfg: CfgNode) -> None:
    """Add the keys of both decoders; those of heads, losses and targets are MaX-DeepLab's."""
    node = cfg.MODEL.DEEPLAB2.KMAX_DEEPLAB = CfgNode()
    # Stride of the masks: 4, or 2 for large images with small things (Cityscapes).
    node.MASK_STRIDE = 4
    # Pixel decoder: widths of its stages at strides 32, 16, 8, 4 and 2 (they return four times
    # that), and their blocks. The last is for MASK_STRIDE 2 alone.
    node.DECODER_WIDTHS = [512, 256, 128, 64, 32]
    node.DECODER_BLOCKS = [1, 5, 1, 1, 1]
    # The maps of the backbone that it reads: before their activation, or after it.
    node.ACTIVATED_FEATURES = False
    # Atrous rate of its 3x3 convolutions: 2 in DeepLab2, 1 in the authors' PyTorch code.
    node.DECODER_ATROUS_RATE = 2
    # Transformer decoder: layers at strides 32, 16 and 8, each with a prediction that is learnt.
    node.TRANSFORMER_LAYERS = [2, 2, 2]
    # Cluster centers, one a mask, their channels, and the inner ones of their feed-forward network.
    node.NUM_CENTERS = 128
    node.CENTER_CHANNELS = 256
    node.CENTER_FEED_FORWARD = 2048
    # Stochastic depth of its layers: probability to keep a residual branch in training.
    node.CENTER_DROP_PATH = 0.8
    # MAX_DEEPLAB.AUXILIARY_SEMANTIC has a decoder (SEMANTIC_DECODER); without it, as for
    # Cityscapes, its head reads the backbone's last feature.
    node.AUXILIARY_DECODER = True
    # Match every layer's masks with the ground truth by themselves, not all as the last ones.
    node.MATCH_EACH = False


def check_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    assert MAX_RECORD.check_config is not None
    MAX_RECORD.check_config(cfg)
    node = cfg.MODEL.DEEPLAB2.KMAX_DEEPLAB
    require_one_of(_PREFIX + "MASK_STRIDE", node.MASK_STRIDE, (2, 4))
    require_one_of(_PREFIX + "DECODER_ATROUS_RATE", node.DECODER_ATROUS_RATE, (1, 2))
    require_one_of(_PREFIX + "ACTIVATED_FEATURES", node.ACTIVATED_FEATURES, (False, True))
    _check_numbers("DECODER_WIDTHS", node.DECODER_WIDTHS, _NUM_STAGES, least=1)
    _check_numbers("DECODER_BLOCKS", node.DECODER_BLOCKS, _NUM_STAGES, least=1)
    _check_numbers("TRANSFORMER_LAYERS", node.TRANSFORMER_LAYERS, 3, least=0)
    for key in ("NUM_CENTERS", "CENTER_FEED_FORWARD"):
        require(node[key] >= 1, _PREFIX + key, "at least 1", node[key])
    # Half of them are the channels of all heads' keys.
    multiple = 2 * _NUM_HEADS
    require(
        node.CENTER_CHANNELS >= 1 and node.CENTER_CHANNELS % multiple == 0,
        _PREFIX + "CENTER_CHANNELS",
        f"a positive multiple of {multiple}",
        node.CENTER_CHANNELS,
    )
    require(
        0.0 < node.CENTER_DROP_PATH <= 1.0,
        _PREFIX + "CENTER_DROP_PATH",
        "in (0, 1]",
        node.CENTER_DROP_PATH,
    )


def _check_numbers(key: str, values: Sequence[Any], count: int, *, least: int) -> None:
    require(
        len(values) == count and all(isinstance(v, int) and v >= least for v in values),
        _PREFIX + key,
        f"{count} integers of at least {least}",
        list(values),
    )
