"""Evaluation of one or several checkpoints."""

from typing import Any, Dict, Iterator, Sequence, Tuple, cast

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from torch import nn

from ..checkpoint import adopt_classes, summarize_names, with_published_classes
from ..models import AveragedSegmenter, Segmenter
from ..records import find_record
from .checkpointing import build_checkpointer
from .setup import ConfigError, load_config
from .trainer import DeepLab2Trainer
from .training_parts import build_average


def evaluate(
    cfg: CfgNode,
    *,
    resume: bool = False,
    ensemble: Sequence[str] = (),
    allow_random_weights: bool = False,
) -> Dict[str, Any]:
    """
    Evaluate on DATASETS.TEST.

    Args:
        cfg: TEST.AUG.ENABLED asks for test-time augmentation. With SOLVER.DEEPLAB2.EMA_DECAY above
            0 the averaged weights are evaluated.
        resume: evaluate the last checkpoint of OUTPUT_DIR, if there is one, not MODEL.WEIGHTS.
        ensemble: more members whose predictions are averaged with the first's: ``WEIGHTS`` for the
            same config, or ``CONFIG=WEIGHTS``.
        allow_random_weights: see :func:`load_model`.

    Returns:
        The evaluators' results.
    """
    model = load_test_model(
        cfg, resume=resume, ensemble=ensemble, allow_random_weights=allow_random_weights
    )
    return DeepLab2Trainer.test(cfg, model)


def load_test_model(
    cfg: CfgNode,
    *,
    resume: bool = False,
    ensemble: Sequence[str] = (),
    allow_random_weights: bool = False,
) -> nn.Module:
    """
    What is evaluated: one model, or one that averages over views and members.

    Args:
        cfg, resume, ensemble: see :func:`evaluate`.
        allow_random_weights: see :func:`load_model`.

    Raises:
        ConfigError: if averaging is asked for of models of no kind or of several kinds that can
            be averaged, or a member differs from the first in its classes; or see
            :func:`load_model`.
    """
    allow: Dict[str, Any] = {"allow_random_weights": allow_random_weights}
    models = [load_model(cfg, resume=resume, **allow)]
    models += [load_model(*_member(cfg, member), **allow) for member in ensemble]
    if not ensemble and not cfg.TEST.AUG.ENABLED:
        return models[0]
    records = [find_record(model) for model in models]
    record = records[0]
    if record is None or record.averaging is None or any(other is not record for other in records):
        raise ConfigError(
            "config key TEST.AUG.ENABLED must be False, and --ensemble empty, for "
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE!r}"
        )
    averaged = [cast(Segmenter, model) for model in models]
    first = averaged[0].inference.class_map
    for member, model in zip(ensemble, averaged[1:]):
        if model.inference.class_map != first:
            raise ConfigError(
                f"--ensemble {member}: its classes must be the first's, {first}, got "
                f"{model.inference.class_map}"
            )
    return AveragedSegmenter.from_config(cfg, averaged, record.averaging).eval()


def load_model(
    cfg: CfgNode, weights: str = "", *, resume: bool = False, allow_random_weights: bool = False
) -> nn.Module:
    """
    Build a model and load its weights.

    Args:
        cfg: the model's config.
        weights: "" = MODEL.WEIGHTS.
        resume: the last checkpoint of OUTPUT_DIR, if there is one, comes first.
        allow_random_weights: let what the weights lack be random.

    Raises:
        ConfigError: if averaged weights are asked for (SOLVER.DEEPLAB2.EMA_DECAY) and not there, or
            if a weight of the model would be random: of a network without training, or of one whose
            backbone alone is trained.
    """
    path = weights or cfg.MODEL.WEIGHTS
    if not resume:
        cfg = with_published_classes(cfg, path)
    cfg = dense_config(cfg)
    adopt_classes(cfg, path)
    model = DeepLab2Trainer.build_model(cfg)
    checkpointer = build_checkpointer(cfg, model)
    if resume and checkpointer.has_checkpoint():
        path = checkpointer.get_checkpoint_file()
    rest = checkpointer.load(path, checkpointables=[])
    if checkpointer.unloaded and not allow_random_weights:
        parts = summarize_names(checkpointer.unloaded)
        raise ConfigError(
            f"config key MODEL.WEIGHTS must be a trained model's, got {path!r}, which leaves "
            f"random {parts}; --allow-random-weights (load_model: random_weights=True) uses it "
            "anyway"
        )
    average = build_average(cfg, model)
    if average is not None:
        if "average" not in rest:
            raise ConfigError(
                "config key SOLVER.DEEPLAB2.EMA_DECAY must be 0 to evaluate "
                f"{path!r}: it has no averaged weights"
            )
        average.load_state_dict(rest["average"])
        model.load_state_dict(average.state_dict())
    return model.eval()


def dense_config(cfg: CfgNode) -> CfgNode:
    """
    The config of the same network at TEST.DEEPLAB2.OUTPUT_STRIDE.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 4 ("atrous convolution in the last two
    blocks" on the test set). Convolutions that lose a stride become atrous; the rates of an ASPP
    grow as the grid of the feature that it reads, so that it sees the same part of the image.
    Rates that follow from the stride ([]) do so anyway.

    Returns:
        The config itself where the option is 0, else a changed, frozen copy.
    """
    stride, trained = cfg.TEST.DEEPLAB2.OUTPUT_STRIDE, cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE
    if stride in (0, trained):
        return cfg
    dense = cfg.clone()
    dense.defrost()
    dense.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE = stride
    before, after = _feature_strides(cfg), _feature_strides(dense)
    for decoder in _decoders(dense.MODEL.DEEPLAB2):
        # A feature of higher resolution keeps its stride, and the backbone may not have it.
        old, new = (strides.get(decoder.FEATURE, 1) for strides in (before, after))
        decoder.ATROUS_RATES = [rate * old // new for rate in decoder.ATROUS_RATES]
    dense.freeze()
    return dense


def _feature_strides(cfg: CfgNode) -> Dict[str, int]:
    """Name of each feature of a config's backbone to its stride."""
    with torch.device("meta"):
        shapes = build_backbone(cfg).output_shape()
    return {name: shape.stride for name, shape in shapes.items() if shape.stride is not None}


def _decoders(node: CfgNode) -> Iterator[CfgNode]:
    """Every node at or below this one that has an ASPP."""
    if "ATROUS_RATES" in node:
        yield node
    for child in node.values():
        if isinstance(child, CfgNode):
            yield from _decoders(child)


def _member(cfg: CfgNode, member: str) -> Tuple[CfgNode, str]:
    config_file, separator, weights = member.rpartition("=")
    if not separator:
        return cfg, weights
    other = load_config(config_file, ["MODEL.DEVICE", cfg.MODEL.DEVICE])
    other.freeze()
    return other, weights
