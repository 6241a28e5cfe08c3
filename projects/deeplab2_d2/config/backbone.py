"""Defaults of the backbone's config keys, and their checks."""

from typing import Any

from detectron2.config import CfgNode

from .checks import require, require_one_of

_STRIDES = (2, 4, 8, 16, 32)
_ACTIVATIONS = ("relu", "relu6", "swish", "silu", "hard_swish", "gelu", "approximated_gelu", "elu")


def add_backbone(node: CfgNode) -> None:
    """Add ``BACKBONE``. Where a key is None, the row of the table of backbones decides."""
    node.BACKBONE = CfgNode()
    # Row of the table of backbones: "resnet50", "resnet50_beta", "mobilenet_v3_small", ...
    node.BACKBONE.NAME = "resnet50"
    # Ratio of the input's size to that of the last features: 8, 16 or 32.
    node.BACKBONE.OUTPUT_STRIDE = 32
    # First convolutions: "conv7x7", "conv3x3", or "inception" (three 3x3); None: the row's.
    node.BACKBONE.STEM = None
    # "relu", "swish", "gelu", "approximated_gelu", "elu", ... MobileNetV3 has its own.
    node.BACKBONE.ACTIVATION = "relu"
    # Squeeze-and-excite in residual blocks. MobileNetV3 has it always.
    node.BACKBONE.SQUEEZE_AND_EXCITE = False
    # MobileNetV3: half the channels after res4 (Panoptic-DeepLab, Tab. 9).
    node.BACKBONE.REDUCED_LAST_BLOCK = False
    # Probability to keep a residual branch in training (stochastic depth): (0, 1]; 1 = off.
    node.BACKBONE.DROP_PATH_KEEP_PROB = 1.0
    # "constant", or "linear": the keep probability falls from 1 at the stem to its value.
    node.BACKBONE.DROP_PATH_SCHEDULE = "constant"
    # Factor on the channels of the stem and of the first wide stage (SWideRNet's w1).
    node.BACKBONE.STEM_WIDTH_MULTIPLIER = 1.0
    # Factor on the channels of the other stages (SWideRNet's w2).
    node.BACKBONE.WIDTH_MULTIPLIER = 1.0
    # Factor on the number of blocks of a stage (SWideRNet's l).
    node.BACKBONE.LAYER_MULTIPLIER = 1.0
    # Switchable atrous convolution in stages whose stride is at least this; -1 = nowhere.
    node.BACKBONE.SAC_BEYOND_STRIDE = -1
    # Blocks whose inner values are computed again in backward, which saves memory: [] or kinds of
    # "basic", "bottleneck", "axial", "global", "transformer" (the memory path's); None: the row's.
    node.BACKBONE.CHECKPOINTED_KINDS = None
    node.BACKBONE.ATTENTION = _attention()
    node.BACKBONE.MEMORY = _memory()
    node.BACKBONE.DECODER = _decoder_stacks()


def _attention() -> CfgNode:
    node = CfgNode()
    # Blocks whose input has at least this stride (before any dilation) are axial attention in place
    # of convolutions; -1 = none, None: the row's.
    node.AXIAL_BEYOND_STRIDE = None
    # The same for global attention, which comes before axial.
    node.GLOBAL_BEYOND_STRIDE = -1
    # Learned positions before global attention: "none", "1D" (of rows) or "2D" (of pixels), made
    # for INPUT.CROP.SIZE and resized for other sizes.
    node.POSITION_ENCODING = "none"
    # Layers of a block of global attention: 1, or 2 (as many parameters as an axial block).
    node.GLOBAL_LAYERS = 1
    # Heads; None: the row's.
    node.NUM_HEADS = None
    # Channels of queries and keys, of values, and before them, over a block's width; None: the
    # row's.
    node.KEY_EXPANSION = None
    node.VALUE_EXPANSION = None
    node.BLOCK_EXPANSION = None
    # Terms of the similarity: query and key, query and position, key and position.
    node.CONTENT = True
    node.QUERY_ENCODING = True
    node.KEY_ENCODING = True
    # Retrieve an encoding of positions beside the values.
    node.VALUE_ENCODING = True
    # "softmax" or "sigmoid" of the similarities.
    node.ACTIVATION = "softmax"
    # Pixels of its axis that a pixel attends to, itself in the middle: odd (the paper's 65);
    # 0 = all.
    node.SPAN = 0
    # "lean" makes the similarities a few at a time, and again in backward; "direct" keeps them all.
    # The values are the same.
    node.FORM = "lean"
    return node


def _memory() -> CfgNode:
    """MaX-DeepLab's memory path; None: the row's."""
    node = CfgNode()
    # Mask slots that are used (the paper's N), at most 1024.
    node.NUM_SLOTS = None
    # Channels of the memory.
    node.CHANNELS = None
    # Blocks of stages whose output has at least this stride (before any dilation) exchange with the
    # memory, in the encoder and in the decoder stacks; 32 is the last stage, 16 the last two.
    node.BEYOND_STRIDE = None
    # Width of the exchange: 128 channels times this at stride 16, in proportion to the stride.
    node.EXPANSION = None
    # Inner channels of the memory's feed-forward network; 0 = none.
    node.FEED_FORWARD_CHANNELS = None
    # Channels of the class and the mask features at the end.
    node.FEATURE_CHANNELS = None
    # Heads of all its attention.
    node.NUM_HEADS = None
    # The memory attends to itself beside the pixels (M2M), and the pixels to the memory (P2M).
    node.SELF_ATTENTION = None
    node.PIXEL_FEEDBACK = None
    # "softmax" or "sigmoid" of the similarities.
    node.ATTENTION_ACTIVATION = None
    return node


def _decoder_stacks() -> CfgNode:
    """The stacks of MaX-DeepLab's decoder (their sum is the paper's L); None: the row's."""
    node = CfgNode()
    # Stacks that belong to the pretrained backbone.
    node.BACKBONE_STACKS = None
    # Stacks after it.
    node.EXTRA_STACKS = None
    # Blocks of a stage after the backbone.
    node.EXTRA_BLOCKS = None
    return node


def check_backbone(node: CfgNode) -> None:
    """
    Refuse values that no backbone can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    prefix = "MODEL.DEEPLAB2.BACKBONE."
    require_one_of(prefix + "OUTPUT_STRIDE", node.OUTPUT_STRIDE, (8, 16, 32))
    require_one_of(prefix + "STEM", node.STEM, (None, "conv7x7", "conv3x3", "inception"))
    require_one_of(prefix + "DROP_PATH_SCHEDULE", node.DROP_PATH_SCHEDULE, ("constant", "linear"))
    require(
        0.0 < node.DROP_PATH_KEEP_PROB <= 1.0,
        prefix + "DROP_PATH_KEEP_PROB",
        "in (0, 1]",
        node.DROP_PATH_KEEP_PROB,
    )
    for name in ("STEM_WIDTH_MULTIPLIER", "WIDTH_MULTIPLIER", "LAYER_MULTIPLIER"):
        require(node[name] > 0, prefix + name, "positive", node[name])
    require_one_of(prefix + "ACTIVATION", node.ACTIVATION, _ACTIVATIONS)
    kinds = ("basic", "bottleneck", "axial", "global", "transformer")
    for kind in node.CHECKPOINTED_KINDS or ():
        require_one_of(prefix + "CHECKPOINTED_KINDS", kind, kinds)
    _check_attention(node.ATTENTION, prefix + "ATTENTION.")
    _check_memory(node.MEMORY, prefix + "MEMORY.")
    for name, least in (("BACKBONE_STACKS", 0), ("EXTRA_STACKS", 0), ("EXTRA_BLOCKS", 1)):
        _require_count(f"{prefix}DECODER.{name}", node.DECODER[name], least)


def _check_attention(node: CfgNode, prefix: str) -> None:
    strides = (-1,) + _STRIDES
    require_one_of(prefix + "AXIAL_BEYOND_STRIDE", node.AXIAL_BEYOND_STRIDE, (None,) + strides)
    require_one_of(prefix + "GLOBAL_BEYOND_STRIDE", node.GLOBAL_BEYOND_STRIDE, strides)
    require_one_of(prefix + "POSITION_ENCODING", node.POSITION_ENCODING, ("none", "1D", "2D"))
    require_one_of(prefix + "GLOBAL_LAYERS", node.GLOBAL_LAYERS, (1, 2))
    require_one_of(prefix + "ACTIVATION", node.ACTIVATION, ("softmax", "sigmoid"))
    require_one_of(prefix + "FORM", node.FORM, ("lean", "direct"))
    _require_count(prefix + "NUM_HEADS", node.NUM_HEADS, 1)
    span = node.SPAN
    require(span == 0 or (span > 0 and span % 2 == 1), prefix + "SPAN", "0, or odd", span)
    require(
        node.CONTENT or node.QUERY_ENCODING or node.KEY_ENCODING,
        prefix + "CONTENT",
        "True where QUERY_ENCODING and KEY_ENCODING are False",
        node.CONTENT,
    )
    require(
        node.POSITION_ENCODING == "none" or node.GLOBAL_BEYOND_STRIDE > 0,
        prefix + "POSITION_ENCODING",
        "'none' where GLOBAL_BEYOND_STRIDE is -1",
        node.POSITION_ENCODING,
    )
    for name in ("KEY_EXPANSION", "VALUE_EXPANSION", "BLOCK_EXPANSION"):
        require(node[name] is None or node[name] > 0, prefix + name, "positive", node[name])


def _check_memory(node: CfgNode, prefix: str) -> None:
    require_one_of(prefix + "BEYOND_STRIDE", node.BEYOND_STRIDE, (None,) + _STRIDES)
    activations = (None, "softmax", "sigmoid")
    require_one_of(prefix + "ATTENTION_ACTIVATION", node.ATTENTION_ACTIVATION, activations)
    for name in ("SELF_ATTENTION", "PIXEL_FEEDBACK"):
        require_one_of(prefix + name, node[name], (None, True, False))
    expansion = node.EXPANSION
    require(expansion is None or expansion > 0, prefix + "EXPANSION", "positive", expansion)
    for name in ("NUM_SLOTS", "CHANNELS", "FEATURE_CHANNELS", "NUM_HEADS"):
        _require_count(prefix + name, node[name], 1)
    _require_count(prefix + "FEED_FORWARD_CHANNELS", node.FEED_FORWARD_CHANNELS, 0)
    # What post-processing takes.
    require((node.NUM_SLOTS or 1) <= 1024, prefix + "NUM_SLOTS", "at most 1024", node.NUM_SLOTS)


def _require_count(key: str, value: Any, least: int) -> None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(value is None or is_count, key, f"None or a whole number of at least {least}", value)
