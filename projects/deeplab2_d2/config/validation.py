"""Checks of config values. Each error names the key, the rule and the value."""

from typing import Iterable

from detectron2.config import CfgNode

from ..records import config_parts, find_record
from .checks import require as _require
from .checks import require_one_of as _require_one_of


def validate_config(cfg: CfgNode) -> None:
    """
    Refuse values that cannot work, before any data or model is touched.

    Sizes, augmentation and what a model adds are checked for models whose record has a check.

    Args:
        cfg: a config with this package's keys.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    node = cfg.MODEL.DEEPLAB2
    for part in config_parts():
        part.check_config(cfg)
    check_decoder(node.SEMANTIC_DECODER, "MODEL.DEEPLAB2.SEMANTIC_DECODER.")
    _check_classes(cfg.MODEL)
    check_loss_term(node.LOSS, "SEMANTIC")
    _check_postprocessing(node.POSTPROCESSING)
    _check_crf(node)
    _check_solver(cfg.SOLVER)
    _check_test(cfg)
    record = find_record(cfg)
    if record is not None and record.check_config is not None:
        if not (record.has_detectron2_input or record.has_own_input):
            _check_input(cfg)
        record.check_config(cfg)


def check_decoder(node: CfgNode, prefix: str) -> None:
    """Refuse what :func:`decoder_node` cannot have; the keys begin with ``prefix``."""
    conv_types = ("depthwise_separable_conv", "standard_conv")
    _require_one_of(prefix + "CONV_TYPE", node.CONV_TYPE, conv_types)
    _require_one_of(prefix + "ASPP_CONV_TYPE", node.ASPP_CONV_TYPE, conv_types)
    aspps = ("tiled", "global", "global_plain", "1x1")
    _require_one_of(prefix + "ASPP", node.ASPP, aspps)
    rates = list(node.ATROUS_RATES)
    _require(
        not rates or (len(rates) == 3 and all(rate >= 1 for rate in rates)),
        prefix + "ATROUS_RATES",
        "three rates of at least 1, or [] for those of the stride",
        rates,
    )
    dropout = node.ASPP_DROPOUT
    _require(0 <= dropout < 1, prefix + "ASPP_DROPOUT", "at least 0 and below 1", dropout)
    fusion = list(node.FUSION)
    _require(
        len(fusion) == 2 and all(isinstance(n, int) and n >= 1 for n in fusion) and fusion[0] % 2,
        prefix + "FUSION",
        "an odd kernel size and a number of convolutions",
        fusion,
    )
    pairs = list(node.LOW_LEVEL)
    are_pairs = all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], int)
        and pair[1] >= 1
        for pair in pairs
    )
    _require(are_pairs, prefix + "LOW_LEVEL", "pairs of a feature and its channels", pairs)


def check_loss_term(node: CfgNode, name: str) -> None:
    """Refuse a pair (weight, top-k part) of MODEL.DEEPLAB2.LOSS that cannot work."""
    value = node[name]
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    _require(
        is_pair and value[0] >= 0 and 0.0 < value[1] <= 1.0,
        f"MODEL.DEEPLAB2.LOSS.{name}",
        "a weight of at least 0 and a part in (0, 1]",
        value,
    )


# Of class maps that have channels of their own.
_CHANNELS_OF_MAP = {"deeplab2_coco": 134, "deeplab2_ade20k": 151}


def _check_classes(model: CfgNode) -> None:
    class_map, count = model.DEEPLAB2.CLASS_MAP, model.SEM_SEG_HEAD.NUM_CLASSES
    _require_one_of("MODEL.DEEPLAB2.CLASS_MAP", class_map, ("identity", *_CHANNELS_OF_MAP))
    _require(
        count == _CHANNELS_OF_MAP.get(class_map, count),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        f"{_CHANNELS_OF_MAP.get(class_map)} where MODEL.DEEPLAB2.CLASS_MAP is {class_map!r}",
        count,
    )


def _check_postprocessing(node: CfgNode) -> None:
    prefix = "MODEL.DEEPLAB2.POSTPROCESSING."
    _require(
        node.STUFF_AREA_LIMIT >= 0, prefix + "STUFF_AREA_LIMIT", "at least 0", node.STUFF_AREA_LIMIT
    )


def _check_crf(model: CfgNode) -> None:
    node, prefix = model.CRF, "MODEL.DEEPLAB2.CRF."
    iterations, normalization = node.NUM_ITERATIONS, node.NORMALIZATION
    _require(iterations >= 1, prefix + "NUM_ITERATIONS", "at least 1", iterations)
    for key in ("W1", "W2"):
        _require(node[key] >= 0, prefix + key, "at least 0", node[key])
    for key in ("THETA_ALPHA", "THETA_BETA", "THETA_GAMMA"):
        _require(node[key] > 0, prefix + key, "positive", node[key])
    _require_one_of(prefix + "NORMALIZATION", normalization, ("after", "symmetric"))
    _require(
        not node.ENABLED or model.POSTPROCESSING.SEMANTIC_OUTPUT,
        prefix + "ENABLED",
        "False without MODEL.DEEPLAB2.POSTPROCESSING.SEMANTIC_OUTPUT, which it refines",
        node.ENABLED,
    )


def check_grid_size(key: str, size: Iterable[int], output_stride: int) -> None:
    """
    Refuse a (height, width) that is not 1 + a multiple of the output stride.

    Only such sizes keep the corners of the input on the corners of every feature map.
    """
    size = tuple(size)
    _require(len(size) == 2, key, "a height and a width", size)
    _require(
        all(type(n) is int and n > 0 and (n - 1) % output_stride == 0 for n in size),
        key,
        f"1 + a multiple of the output stride {output_stride} in both sides",
        size,
    )


def _check_test(cfg: CfgNode) -> None:
    stride = cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE
    dense = cfg.TEST.DEEPLAB2.OUTPUT_STRIDE
    _require(
        dense == 0 or (dense in (8, 16, 32) and dense <= stride),
        "TEST.DEEPLAB2.OUTPUT_STRIDE",
        f"0, 8, 16 or 32 and at most MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE ({stride})",
        dense,
    )
    trackers = ("none", "overlap", "flow")
    _require_one_of("TEST.DEEPLAB2.TRACKER", cfg.TEST.DEEPLAB2.TRACKER, trackers)
    scales = list(cfg.TEST.DEEPLAB2.SCALES)
    _require(all(scale > 0 for scale in scales), "TEST.DEEPLAB2.SCALES", "positive", scales)


def _check_input(cfg: CfgNode) -> None:
    stride = cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE
    check_grid_size("INPUT.CROP.SIZE", cfg.INPUT.CROP.SIZE, stride)
    if any(cfg.TEST.DEEPLAB2.PAD_TO):
        check_grid_size("TEST.DEEPLAB2.PAD_TO", cfg.TEST.DEEPLAB2.PAD_TO, stride)
    _require_one_of("INPUT.FORMAT", cfg.INPUT.FORMAT, ("RGB", "BGR"))
    node, prefix = cfg.INPUT.DEEPLAB2, "INPUT.DEEPLAB2."
    scales = list(node.SCALES)
    _require(
        len(scales) == 3 and 0 < scales[0] <= scales[1] and scales[2] >= 0,
        prefix + "SCALES",
        "a least scale, a greatest one and a step of at least 0",
        scales,
    )
    sizes = list(node.RESIZE_RANGE)
    _require(
        len(sizes) == 2 and min(sizes) >= 0,
        prefix + "RESIZE_RANGE",
        "two sizes of at least 0",
        sizes,
    )
    policy = list(node.AUTOAUGMENT)
    _require(
        not policy or (len(policy) == 2 and isinstance(policy[0], str) and policy[1] > 0),
        prefix + "AUTOAUGMENT",
        "[], or the name of a policy and a positive strength",
        policy,
    )
    pasted = list(node.COPY_PASTE.PASTED)
    _require(
        len(pasted) == 3 and all(value in ("random", "all", "none") for value in pasted),
        prefix + "COPY_PASTE.PASTED",
        "'random', 'all' or 'none' for things, stuff and void",
        pasted,
    )


def _check_solver(node: CfgNode) -> None:
    prefix = "SOLVER.DEEPLAB2."
    _require_one_of(
        prefix + "OPTIMIZER", node.DEEPLAB2.OPTIMIZER, ("adam", "adamw", "sgd", "radam_lookahead")
    )
    _require_one_of(prefix + "SCHEDULE", node.DEEPLAB2.SCHEDULE, ("poly", "cosine", "step"))
    clip = node.CLIP_GRADIENTS
    if clip.ENABLED:
        _require(
            clip.CLIP_TYPE == "full_model" and clip.NORM_TYPE == 2.0,
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
            "'full_model' with a NORM_TYPE of 2.0: the norm of all gradients together",
            clip.CLIP_TYPE,
        )
        value = clip.CLIP_VALUE
        _require(value > 0, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "positive", value)
    steps, reference = node.DEEPLAB2.ACCUMULATION_STEPS, node.DEEPLAB2.REFERENCE_BATCH
    _require(steps >= 1, prefix + "ACCUMULATION_STEPS", "at least 1", steps)
    period = node.DEEPLAB2.LOG_PERIOD
    _require(period >= 1, prefix + "LOG_PERIOD", "at least 1", period)
    _require(reference >= 0, prefix + "REFERENCE_BATCH", "at least 0", reference)
    _require_one_of(prefix + "AMP_DTYPE", node.DEEPLAB2.AMP_DTYPE, ("bfloat16", "float16"))
    decay = node.DEEPLAB2.EMA_DECAY
    _require(0.0 <= decay < 1.0, prefix + "EMA_DECAY", "in [0, 1)", decay)
    metric, patience = node.DEEPLAB2.BEST_METRIC, node.DEEPLAB2.PATIENCE
    is_metric = not metric or "/" in metric.strip("-/")
    _require(is_metric, prefix + "BEST_METRIC", "'' or a task and a metric, TASK/METRIC", metric)
    _require(patience >= 0, prefix + "PATIENCE", "at least 0", patience)
    rule = "0 without a SOLVER.DEEPLAB2.BEST_METRIC"
    _require(bool(metric) or patience == 0, prefix + "PATIENCE", rule, patience)
