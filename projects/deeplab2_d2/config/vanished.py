"""Config keys of earlier versions, and what has taken their place."""

from typing import Dict

from detectron2.config import CfgNode

_BACKBONE = "MODEL.DEEPLAB2.BACKBONE."
_LOSS = "MODEL.DEEPLAB2.LOSS."
_POSTPROCESSING = "MODEL.DEEPLAB2.POSTPROCESSING."
_INPUT = "INPUT.DEEPLAB2."
_SOLVER = "SOLVER.DEEPLAB2."

_REFERENCE = (
    "Operators run in plain PyTorch inside `with deeplab2_d2.ops.use_reference():`, and wherever "
    "they are not built."
)
_ONE_FORM = "There is one form now, the exact and lean one."
_HEAD_CONVOLUTION = "A head's convolution is its decoder's CONV_TYPE."

# What moved into the node of the backbone family that has it, under its own name.
_RESIDUAL_KEYS = (
    "STEM",
    "ACTIVATION",
    "SQUEEZE_AND_EXCITE",
    "STEM_WIDTH_MULTIPLIER",
    "LAYER_MULTIPLIER",
    "SAC_BEYOND_STRIDE",
    "CHECKPOINTED_KINDS",
    "ATTENTION.AXIAL_BEYOND_STRIDE",
    "ATTENTION.POSITION_ENCODING",
    "ATTENTION.NUM_HEADS",
    "ATTENTION.ACTIVATION",
    "ATTENTION.SPAN",
    "MEMORY.NUM_SLOTS",
    "MEMORY.BEYOND_STRIDE",
    "MEMORY.EXPANSION",
    "MEMORY.FEED_FORWARD_CHANNELS",
    "MEMORY.NUM_HEADS",
    "MEMORY.ATTENTION_ACTIVATION",
)

# The new key, what it holds in order, and the old keys of these, in the same order.
_JOINED = (
    (
        _BACKBONE + "RESIDUAL.DROP_PATH",
        _BACKBONE,
        ("DROP_PATH_KEEP_PROB", "DROP_PATH_SCHEDULE"),
    ),
    (
        _BACKBONE + "RESIDUAL.DECODER",
        _BACKBONE + "DECODER.",
        ("BACKBONE_STACKS", "EXTRA_STACKS", "EXTRA_BLOCKS"),
    ),
    (
        _BACKBONE + "RESIDUAL.ATTENTION.GLOBAL",
        _BACKBONE + "ATTENTION.",
        ("GLOBAL_BEYOND_STRIDE", "GLOBAL_LAYERS"),
    ),
    (
        _BACKBONE + "RESIDUAL.ATTENTION.EXPANSIONS",
        _BACKBONE + "ATTENTION.",
        ("KEY_EXPANSION", "VALUE_EXPANSION", "BLOCK_EXPANSION"),
    ),
    (
        _BACKBONE + "RESIDUAL.ATTENTION.TERMS",
        _BACKBONE + "ATTENTION.",
        ("CONTENT", "QUERY_ENCODING", "KEY_ENCODING", "VALUE_ENCODING"),
    ),
    (
        _BACKBONE + "RESIDUAL.MEMORY.CHANNELS",
        _BACKBONE + "MEMORY.",
        ("CHANNELS", "FEATURE_CHANNELS"),
    ),
    (
        _BACKBONE + "RESIDUAL.MEMORY.PATHS",
        _BACKBONE + "MEMORY.",
        ("SELF_ATTENTION", "PIXEL_FEEDBACK"),
    ),
    (
        "MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL",
        "MODEL.DEEPLAB2.SEMANTIC_DECODER.",
        ("LOW_LEVEL_FEATURES", "LOW_LEVEL_CHANNELS"),
    ),
    (
        "MODEL.DEEPLAB2.INSTANCE_DECODER.LOW_LEVEL",
        "MODEL.DEEPLAB2.INSTANCE_DECODER.",
        ("LOW_LEVEL_FEATURES", "LOW_LEVEL_CHANNELS"),
    ),
    (
        "MODEL.DEEPLAB2.SEMANTIC_DECODER.ASPP",
        "MODEL.DEEPLAB2.SEMANTIC_DECODER.",
        ("ASPP_POOLING", "ASPP_ONLY_1X1"),
    ),
    (
        "MODEL.DEEPLAB2.INSTANCE_DECODER.ASPP",
        "MODEL.DEEPLAB2.INSTANCE_DECODER.",
        ("ASPP_POOLING", "ASPP_ONLY_1X1"),
    ),
    (_LOSS + "SEMANTIC", _LOSS, ("SEMANTIC_WEIGHT", "SEMANTIC_TOP_K")),
    (_LOSS + "CENTER", _LOSS, ("CENTER_WEIGHT", "CENTER_TOP_K")),
    (_LOSS + "OFFSET", _LOSS, ("OFFSET_WEIGHT", "OFFSET_TOP_K")),
    (_LOSS + "PQ_STYLE", _LOSS, ("PQ_STYLE_WEIGHT", "PQ_STYLE_ALPHA")),
    (_LOSS + "MASK_ID", _LOSS, ("MASK_ID_WEIGHT", "MASK_ID_TOP_K")),
    (
        _LOSS + "INSTANCE_DISCRIMINATION",
        _LOSS,
        ("INSTANCE_DISCRIMINATION_WEIGHT", "INSTANCE_DISCRIMINATION_TOP_K"),
    ),
    (
        _LOSS + "INSTANCE_DISCRIMINATION_SAMPLING",
        _LOSS,
        ("INSTANCE_DISCRIMINATION_SAMPLES", "INSTANCE_DISCRIMINATION_SAMPLE_TEMPERATURE"),
    ),
    (
        _POSTPROCESSING + "CONFIDENCE_THRESHOLDS",
        _POSTPROCESSING,
        ("CLASS_CONFIDENCE_THRESHOLD", "PIXEL_CONFIDENCE_THRESHOLD"),
    ),
    (
        _POSTPROCESSING + "MASKWISE_CLASS_THRESHOLDS",
        _POSTPROCESSING,
        ("MASKWISE_THING_THRESHOLD", "MASKWISE_STUFF_THRESHOLD"),
    ),
    (
        _POSTPROCESSING + "MASKWISE_RANK_WEIGHTS",
        _POSTPROCESSING,
        ("MASKWISE_CLASS_WEIGHT", "MASKWISE_MASK_WEIGHT"),
    ),
    (_INPUT + "RESIZE_RANGE", _INPUT, ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN")),
    (_INPUT + "SCALES", _INPUT, ("MIN_SCALE", "MAX_SCALE", "SCALE_STEP")),
    (_INPUT + "AUTOAUGMENT", _INPUT, ("AUTOAUGMENT", "AUTOAUGMENT_MAGNITUDE")),
    (
        _INPUT + "COPY_PASTE.PASTED",
        _INPUT + "COPY_PASTE.",
        ("THING", "STUFF", "VOID"),
    ),
)

# The full old key, and a sentence that tells the new way.
VANISHED_KEYS: Dict[str, str] = {
    **{
        _BACKBONE + key: f"It is {_BACKBONE}RESIDUAL.{key}: a residual network has it."
        for key in _RESIDUAL_KEYS
    },
    **{
        node + key: f"{new} holds {', '.join(keys)} in a list."
        for new, node, keys in _JOINED
        for key in keys
        if node + key != new
    },
    _BACKBONE + "REDUCED_LAST_BLOCK": f"It is {_BACKBONE}MOBILENET_V3.REDUCED_LAST_BLOCK.",
    _BACKBONE + "ATTENTION.FORM": _ONE_FORM,
    _LOSS + "FUSED": _ONE_FORM,
    "MODEL.DEEPLAB2.SEMANTIC_HEAD.CONV_TYPE": _HEAD_CONVOLUTION,
    "MODEL.DEEPLAB2.CENTER_HEAD.CONV_TYPE": _HEAD_CONVOLUTION,
    "MODEL.DEEPLAB2.OFFSET_HEAD.CONV_TYPE": _HEAD_CONVOLUTION,
    "MODEL.DEEPLAB2.MAX_DEEPLAB.PIXEL_HEAD.CONV_TYPE": (
        "It is MODEL.DEEPLAB2.MAX_DEEPLAB.PIXEL_CONV_TYPE."
    ),
    _POSTPROCESSING + "USE_OPS": _REFERENCE,
    _INPUT + "USE_OPS": _REFERENCE,
    _INPUT
    + "IGNORE_CROWD_IN_SEMANTIC": "The semantic loss ignores crowds, as DeepLab2's data has it.",
    _INPUT + "KEEP_LARGEST_THINGS": "More things than MAX_THINGS are an error: raise MAX_THINGS.",
    _SOLVER
    + "CLIP_GLOBAL_NORM": (
        "It is SOLVER.CLIP_GRADIENTS with ENABLED True, CLIP_TYPE full_model and CLIP_VALUE."
    ),
    _SOLVER + "ADAM_EPSILON": "It is 1e-7, Keras's value.",
    _SOLVER + "ADAMW_WEIGHT_DECAY": "It is SOLVER.WEIGHT_DECAY.",
}


def refuse_vanished_keys(cfg: CfgNode) -> None:
    """Let a config that is merged into this one fail at an old key with the new way."""
    for key, sentence in VANISHED_KEYS.items():
        cfg.register_renamed_key(key, "another way", sentence)
