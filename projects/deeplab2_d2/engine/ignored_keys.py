"""Keys of Detectron2's config that have no effect on a config's model, found by their values."""

import logging
from typing import Any, Dict, Iterator, List, Tuple

from detectron2.config import CfgNode, get_cfg

from ..records import find_record

logger = logging.getLogger(__name__)

# What has an effect on every model in our trainer: keys, and nodes with all that is in them.
_EVERYWHERE = (
    *("VERSION", "OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK", "FLOAT32_PRECISION", "VIS_PERIOD"),
    *("DATASETS.TRAIN", "DATASETS.TEST", "DATALOADER.NUM_WORKERS"),
    *("DATALOADER.SAMPLER_TRAIN", "DATALOADER.REPEAT_THRESHOLD"),
    *("SOLVER.BASE_LR", "SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.WEIGHT_DECAY"),
    *("SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.REFERENCE_WORLD_SIZE"),
    "SOLVER.BIAS_LR_FACTOR",
    *("SOLVER.AMP", "SOLVER.CLIP_GRADIENTS"),
    *("TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS", "TEST.AUG", "TEST.PRECISE_BN"),
)
# On those of our own networks, and with our own mapper.
_OF_OUR_MODELS = (
    *("MODEL.META_ARCHITECTURE", "MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.BACKBONE"),
    *("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"),
    *("INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "INPUT.RANDOM_FLIP"),
    "INPUT.CROP.SIZE",
)
# Of those, what has none where samples are made by a mapper's own keys.
_OF_SEGMENTATION = (
    *("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
    *("TEST.AUG", "VIS_PERIOD"),
)
# On others it is for Detectron2's code, or the user's, to read them.
_OF_OTHER_MODELS = ("MODEL", "INPUT", "DATASETS", "DATALOADER", "TEST", "GLOBAL")
_OF_DETECTRON2S_BACKBONES = ("MODEL.RESNETS", "MODEL.FPN")
# What a key without effect may say beside its default, because it is what is done.
_DONE = {
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.ENABLED": True,
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.LR_SCHEDULER_NAME": "DeepLab2LRScheduler",
}
# What decides instead, where it is not clear from the name.
_INSTEAD = {
    "SOLVER.LR_SCHEDULER_NAME": "SOLVER.DEEPLAB2.SCHEDULE",
    "SOLVER.STEPS": "SOLVER.DEEPLAB2.SCHEDULE",
    "SOLVER.GAMMA": "SOLVER.DEEPLAB2.SCHEDULE",
    "SOLVER.WARMUP_FACTOR": "SOLVER.DEEPLAB2.SCHEDULE",
    "SOLVER.MOMENTUM": "SOLVER.DEEPLAB2.OPTIMIZER",
    "SOLVER.NESTEROV": "nothing: momentum is never Nesterov's",
    "MODEL.RESNETS": "MODEL.DEEPLAB2.BACKBONE",
    "INPUT.MIN_SIZE_TRAIN": "INPUT.DEEPLAB2.RESIZE_RANGE",
    "INPUT.MAX_SIZE_TRAIN": "INPUT.DEEPLAB2.RESIZE_RANGE",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "INPUT.DEEPLAB2.SCALES",
    "INPUT.CROP.TYPE": "INPUT.CROP.SIZE, which is in pixels",
}


def warn_of_ignored_keys(cfg: CfgNode) -> None:
    """Name the keys without effect that are not at Detectron2's default."""
    for key, value in ignored_keys(cfg):
        logger.warning(
            "config key %s has no effect on %s (got %r); see %s",
            key,
            cfg.MODEL.META_ARCHITECTURE,
            value,
            next((_INSTEAD[k] for k in _parents(key) if k in _INSTEAD), "docs/own_trainer.md"),
        )
    if _is_ours(cfg) and not cfg.INPUT.CROP.ENABLED:
        logger.warning(
            "config key INPUT.CROP.ENABLED has no effect on %s (got False): training images are "
            "cropped to INPUT.CROP.SIZE",
            cfg.MODEL.META_ARCHITECTURE,
        )


def ignored_keys(cfg: CfgNode) -> List[Tuple[str, Any]]:
    """
    The keys of Detectron2 that are not at their defaults and change nothing, with their values.

    Args:
        cfg: with Detectron2's keys and ours; keys of other projects are passed over.
    """
    read, ignored = _read_nodes(cfg), []
    for key, default in _leaves(get_cfg()):
        value = _look_up(cfg, key)
        if value in (default, _DONE.get(key)) or _has_effect(key, read):
            continue
        ignored.append((key, value))
    return ignored


def _is_ours(cfg: CfgNode) -> bool:
    record = find_record(cfg)
    return (
        record is not None and record.build_mapper is not None and not record.has_detectron2_input
    )


def _read_nodes(cfg: CfgNode) -> Dict[str, bool]:
    """Keys and nodes to whether they have an effect; the longest that a key is in, decides."""
    read = dict.fromkeys(
        _EVERYWHERE + (_OF_OUR_MODELS if _is_ours(cfg) else _OF_OTHER_MODELS), True
    )
    has_our_backbone = cfg.MODEL.BACKBONE.NAME.startswith("build_deeplab2_")
    read.update(dict.fromkeys(_OF_DETECTRON2S_BACKBONES, not has_our_backbone))
    record = find_record(cfg)
    if record is not None and record.has_own_input:
        read.update(dict.fromkeys(_OF_SEGMENTATION, False))
    if has_our_backbone and cfg.MODEL.BACKBONE.NAME.endswith("_fpn_backbone"):
        read["MODEL.FPN"] = True
    steps = ("SOLVER.STEPS", "SOLVER.GAMMA", "SOLVER.WARMUP_FACTOR")
    read.update(dict.fromkeys(steps, cfg.SOLVER.DEEPLAB2.SCHEDULE == "step"))
    read["SOLVER.MOMENTUM"] = cfg.SOLVER.DEEPLAB2.OPTIMIZER == "sgd"
    return read


def _has_effect(key: str, read: Dict[str, bool]) -> bool:
    return next((read[node] for node in _parents(key) if node in read), False)


def _parents(key: str) -> Iterator[str]:
    """A key, and the nodes it is in, from the inmost."""
    words = key.split(".")
    for length in range(len(words), 0, -1):
        yield ".".join(words[:length])


def _leaves(node: CfgNode, prefix: str = "") -> Iterator[Tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _look_up(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node
