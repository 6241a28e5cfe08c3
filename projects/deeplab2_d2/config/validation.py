"""Checks of config values. Each error names the key, the rule and the value."""

from typing import Iterable

from detectron2.config import CfgNode

from ..records import find_record
from .backbone import check_backbone
from .checks import require as _require
from .checks import require_one_of as _require_one_of

_CONV_TYPES = ("depthwise_separable_conv", "standard_conv")


def validate_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work, before any data or model is touched.

    The solver is checked for every model, the rest for models with a record.

    Args:
        cfg: a config with this package's keys.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    _check_solver(cfg.SOLVER)
    record = find_record(cfg)
    if record is None or record.check_config is None:
        return
    node = cfg.MODEL.DEEPLAB2
    check_backbone(node.BACKBONE)
    check_decoder(node.SEMANTIC_DECODER, "MODEL.DEEPLAB2.SEMANTIC_DECODER.")
    check_head(node.SEMANTIC_HEAD, "MODEL.DEEPLAB2.SEMANTIC_HEAD.")
    _check_classes(cfg.MODEL)
    _check_loss(node.LOSS)
    _check_postprocessing(node.POSTPROCESSING)
    _check_input(cfg)
    record.check_config(cfg)


def check_decoder(node: CfgNode, prefix: str) -> None:
    """Refuse what :func:`decoder_node` cannot have; the keys begin with ``prefix``."""
    _require_one_of(prefix + "CONV_TYPE", node.CONV_TYPE, _CONV_TYPES)
    _require_one_of(prefix + "ASPP_POOLING", node.ASPP_POOLING, ("tiled", "global"))
    rates = list(node.ATROUS_RATES)
    _require(
        node.ASPP_ONLY_1X1 or not rates or (len(rates) == 3 and all(rate >= 1 for rate in rates)),
        prefix + "ATROUS_RATES",
        "three rates of at least 1, or [] for those of the stride",
        rates,
    )
    _require(
        len(node.LOW_LEVEL_FEATURES) == len(node.LOW_LEVEL_CHANNELS),
        prefix + "LOW_LEVEL_CHANNELS",
        f"as long as LOW_LEVEL_FEATURES ({len(node.LOW_LEVEL_FEATURES)})",
        list(node.LOW_LEVEL_CHANNELS),
    )


def check_head(node: CfgNode, prefix: str) -> None:
    """Refuse what :func:`head_node` cannot have; the keys begin with ``prefix``."""
    _require_one_of(prefix + "CONV_TYPE", node.CONV_TYPE, _CONV_TYPES)


def _check_classes(model: CfgNode) -> None:
    class_map, count = model.DEEPLAB2.CLASS_MAP, model.SEM_SEG_HEAD.NUM_CLASSES
    _require_one_of("MODEL.DEEPLAB2.CLASS_MAP", class_map, ("identity", "deeplab2_coco"))
    _require(
        class_map != "deeplab2_coco" or count == 134,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        "134 where MODEL.DEEPLAB2.CLASS_MAP is 'deeplab2_coco'",
        count,
    )


def _check_loss(node: CfgNode) -> None:
    prefix, part, weight = "MODEL.DEEPLAB2.LOSS.", node.SEMANTIC_TOP_K, node.SEMANTIC_WEIGHT
    _require(0.0 < part <= 1.0, prefix + "SEMANTIC_TOP_K", "in (0, 1]", part)
    _require(weight >= 0, prefix + "SEMANTIC_WEIGHT", "at least 0", weight)


def _check_postprocessing(node: CfgNode) -> None:
    prefix = "MODEL.DEEPLAB2.POSTPROCESSING."
    _require(
        node.STUFF_AREA_LIMIT >= 0, prefix + "STUFF_AREA_LIMIT", "at least 0", node.STUFF_AREA_LIMIT
    )


def check_grid_size(key: str, size: Iterable[int], output_stride: int) -> None:
    """
    Refuse a (height, width) that is not 1 + a multiple of the output stride.

    Only such sizes keep the corners of the input on the corners of every feature map.
    """
    size = tuple(size)
    _require(len(size) == 2, key, "a height and a width", size)
    _require(
        all(side > 0 and (side - 1) % output_stride == 0 for side in size),
        key,
        f"1 + a multiple of the output stride {output_stride} in both sides",
        size,
    )


def _check_input(cfg: CfgNode) -> None:
    stride = cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE
    check_grid_size("INPUT.CROP.SIZE", cfg.INPUT.CROP.SIZE, stride)
    if any(cfg.TEST.DEEPLAB2.PAD_TO):
        check_grid_size("TEST.DEEPLAB2.PAD_TO", cfg.TEST.DEEPLAB2.PAD_TO, stride)
    dense = cfg.TEST.DEEPLAB2.OUTPUT_STRIDE
    _require(
        dense == 0 or (dense in (8, 16, 32) and dense <= stride),
        "TEST.DEEPLAB2.OUTPUT_STRIDE",
        f"0, 8, 16 or 32 and at most MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE ({stride})",
        dense,
    )
    scales = list(cfg.TEST.DEEPLAB2.SCALES)
    _require(all(scale > 0 for scale in scales), "TEST.DEEPLAB2.SCALES", "positive", scales)
    _require_one_of("INPUT.FORMAT", cfg.INPUT.FORMAT, ("RGB", "BGR"))
    node, prefix = cfg.INPUT.DEEPLAB2, "INPUT.DEEPLAB2."
    _require(
        0 < node.MIN_SCALE <= node.MAX_SCALE,
        prefix + "MIN_SCALE",
        "positive and at most MAX_SCALE",
        (node.MIN_SCALE, node.MAX_SCALE),
    )
    _require(node.SCALE_STEP >= 0, prefix + "SCALE_STEP", "at least 0", node.SCALE_STEP)
    for name in ("THING", "STUFF", "VOID"):
        value = node.COPY_PASTE[name]
        _require_one_of(f"{prefix}COPY_PASTE.{name}", value, ("random", "all", "none"))


def _check_solver(node: CfgNode) -> None:
    prefix = "SOLVER.DEEPLAB2."
    _require_one_of(
        prefix + "OPTIMIZER", node.DEEPLAB2.OPTIMIZER, ("adam", "adamw", "sgd", "radam_lookahead")
    )
    _require_one_of(prefix + "SCHEDULE", node.DEEPLAB2.SCHEDULE, ("poly", "cosine"))
    clip = node.DEEPLAB2.CLIP_GLOBAL_NORM
    _require(clip >= 0, prefix + "CLIP_GLOBAL_NORM", "at least 0", clip)
    steps, reference = node.DEEPLAB2.ACCUMULATION_STEPS, node.DEEPLAB2.REFERENCE_BATCH
    _require(steps >= 1, prefix + "ACCUMULATION_STEPS", "at least 1", steps)
    period = node.DEEPLAB2.LOG_PERIOD
    _require(period >= 1, prefix + "LOG_PERIOD", "at least 1", period)
    _require(reference >= 0, prefix + "REFERENCE_BATCH", "at least 0", reference)
    _require_one_of(prefix + "AMP_DTYPE", node.DEEPLAB2.AMP_DTYPE, ("bfloat16", "float16"))
    decay = node.DEEPLAB2.EMA_DECAY
    _require(0.0 <= decay < 1.0, prefix + "EMA_DECAY", "in [0, 1)", decay)
