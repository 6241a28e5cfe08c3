"""
ResNets' ImageNet weights of torchvision, timm and Detectron2 in our own ResNets.

Our ``resnet*_torchvision`` computes what they compute. The residual ``resnet50``, ``resnet101`` of
DeepLab2 has the same weights and no max pooling: the stride that it had is that of the first 3x3
convolution of the first stage. What remains different is said once, when weights are loaded.
"""

import logging
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from torch import Tensor, nn

from .load import compare_shapes, is_weight
from .torchvision_resnet import detectron2_names

logger = logging.getLogger(__name__)

# Of every ResNet, as Detectron2 names it.
_MARKS = ("stem.conv1.weight", "res2.0.conv1.weight", "res5.0.shortcut.weight")
_BODY = re.compile(r"(?:backbone\.)?(?:bottom_up\.)?((?:stem|res[2-5])\..*)")
_BLOCK = re.compile(r"res(\d)\.(\d+)\.(conv\d|shortcut)\.(.*)")
# Batch norms' statistics that a file without them stands for.
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0}
_EPSILON = 1e-5
# More rows would not tell more.
_MAX_ROWS = 8


@dataclass(frozen=True)
class _Pixels:
    """Channels' mean and deviation, of pixels from 0 to 255 in an order ("RGB" or "BGR")."""

    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    order: str


_TORCHVISION = _Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "RGB")
_CAFFE = _Pixels((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "BGR")


def adopt_imagenet_resnet(
    checkpoint: Mapping[str, Any], model: nn.Module, allow_partial: bool = False
) -> Optional[Dict[str, Tensor]]:
    """
    A ResNet's weights under the names of a model's ResNet, if that is one of ours.

    The first convolution is made for the pixels of the model (its ``pixel_mean``, ``pixel_std`` and
    ``input_format``): inside of the image it then gives what it gave of the pixels that it has
    learned with.

    Args:
        checkpoint: "model": torchvision's, timm's, Detectron2's or Caffe2's names to values, the
            classifier's among them; "__author__": "Caffe2" for the last.
        model: any.
        allow_partial: of a ResNet of another depth or widths give what fits.

    Returns:
        The model's names to values, without a classifier; None if the weights are of no ResNet, or
        the model's is not ours.

    Raises:
        ValueError: if the model's has another depth or other widths.
    """
    is_caffe2 = checkpoint.get("__author__") == "Caffe2"
    theirs = _detectron2_names(checkpoint["model"], is_caffe2)
    if theirs is None:
        return None
    state = model.state_dict()
    place = _find_ours(state)
    if place is None or any(name in state for name in checkpoint["model"]):
        return None
    prefix, is_residual = place
    renamed = {prefix + _our_name(name, is_residual): value for name, value in theirs.items()}
    if not allow_partial:
        _refuse_others(renamed, {k: v for k, v in state.items() if k.startswith(prefix)})
    notes = _notes(model, prefix, is_residual)
    given = _pixels_of(model)
    learned = _CAFFE if is_caffe2 else _TORCHVISION
    if given is not None and given != learned:
        stem = prefix + ("stem." if is_residual else "conv1_1.")
        _fold_pixels(renamed, stem, learned, given)
        notes.append(
            f"its first convolution now takes {given.order} images of mean {given.mean} and "
            f"deviation {given.std} (equal but for the image's border, which is padded with gray)"
        )
    logger.info(
        "weights: an ImageNet ResNet under the names of ours; %s",
        "; ".join(notes) or "it computes the same",
    )
    return renamed


def _detectron2_names(weights: Mapping[str, Any], is_caffe2: bool) -> Optional[Dict[str, Tensor]]:
    if is_caffe2:
        names = list(weights)
        weights = dict(zip(convert_basic_c2_names(names), weights.values()))
    elif "layer1.0.conv1.weight" in weights:
        weights = detectron2_names(weights)
    found: Dict[str, Tensor] = {}
    for name, value in weights.items():
        match = _BODY.fullmatch(name)
        if match and not name.endswith("num_batches_tracked"):
            found[match[1]] = torch.as_tensor(value)
    if any(mark not in found for mark in _MARKS):
        return None
    for name in [name for name in found if name.endswith(".norm.weight")]:
        for statistic, value in _STATISTICS.items():
            key = name[: -len("weight")] + statistic
            found.setdefault(key, torch.full_like(found[name], value))
    return found


def _find_ours(state: Mapping[str, Tensor]) -> Optional[Tuple[str, bool]]:
    """What stands before the names of a ResNet of ours, and whether it is a residual network."""
    for mark, stem, is_residual in (
        ("stage2.block1.conv3_bn.conv.weight", "stem.conv.weight", True),
        ("block1.unit1.conv3.conv.weight", "conv1_1.conv.weight", False),
    ):
        for name in state:
            prefix = name[: -len(mark)]
            if name.endswith(mark) and prefix + stem in state:
                return prefix, is_residual
    return None


def _our_name(name: str, is_residual: bool) -> str:
    match = _BLOCK.fullmatch(name)
    if match is None:
        part, rest = "stem" if is_residual else "conv1_1", name[len("stem.conv1.") :]
    else:
        stage, block, layer, rest = int(match[1]), int(match[2]) + 1, match[3], match[4]
        if is_residual:
            ours = {"conv1": "conv1_bn_act", "conv2": "conv2_bn_act", "conv3": "conv3_bn"}
            part = f"stage{stage}.block{block}.{ours.get(layer, layer)}"
        else:
            part = f"block{stage - 1}.unit{block}.{layer}"
    rest = re.sub(r"^norm\.", "batch_norm.", rest)
    return f"{part}.{rest}" if rest.startswith("batch_norm.") else f"{part}.conv.{rest}"


def _refuse_others(renamed: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    shapes = [
        {name: tuple(value.shape) for name, value in tensors.items() if is_weight(name)}
        for tensors in (renamed, state)
    ]
    report = compare_shapes(*shapes)
    if not report.is_complete:
        raise ValueError(
            "MODEL.WEIGHTS: an ImageNet ResNet must have the depth and widths of the model's "
            f"(MODEL.DEEPLAB2.BACKBONE.NAME), got {report.summary()}; to load what fits, set "
            f"MODEL.DEEPLAB2.PARTIAL_WEIGHTS True\n{report.table(_MAX_ROWS)}"
        )


def _notes(model: nn.Module, prefix: str, is_residual: bool) -> List[str]:
    """What the model's network computes otherwise."""
    notes = []
    if is_residual:
        notes.append(
            "it has no max pooling, whose stride is in the first 3x3 convolution of stage2: these "
            "weights are a start (resnet50_torchvision has it)"
        )
    epsilons = {
        float(module.eps)
        for name, module in model.named_modules()
        if name.startswith(prefix) and hasattr(module, "running_var")
    }
    if epsilons and epsilons != {_EPSILON}:
        notes.append(
            f"its batch norms add {sorted(epsilons)} to variances, not {_EPSILON} "
            "(MODEL.DEEPLAB2.NORM.EPSILON)"
        )
    return notes


def _pixels_of(model: nn.Module) -> Optional[_Pixels]:
    values: List[Any] = [getattr(model, name, None) for name in ("pixel_mean", "pixel_std")]
    if any(not isinstance(value, Tensor) or value.numel() < 3 for value in values):
        return None
    mean, std = (tuple(round(v, 3) for v in value.flatten()[:3].tolist()) for value in values)
    return _Pixels(mean, std, getattr(model, "input_format", "RGB"))


def _fold_pixels(weights: Dict[str, Tensor], stem: str, learned: _Pixels, given: _Pixels) -> None:
    """
    Let a first convolution and its norm take other pixels.

    Learned pixels are ``scale * given + shift`` in each channel; the convolution of the shift is a
    constant, which the norm's moving mean takes.
    """
    kernel = weights[f"{stem}conv.weight"].double()
    turn = learned.order != given.order
    mean, std = (values[::-1] if turn else values for values in (given.mean, given.std))
    scale = torch.tensor([s / t for s, t in zip(std, learned.std)], dtype=torch.float64)
    shift = torch.tensor(
        [(m - n) / t for m, n, t in zip(mean, learned.mean, learned.std)], dtype=torch.float64
    )
    constant = (kernel * shift.view(1, -1, 1, 1)).sum((1, 2, 3))
    kernel = kernel * scale.view(1, -1, 1, 1)
    dtype = weights[f"{stem}conv.weight"].dtype
    weights[f"{stem}conv.weight"] = (kernel.flip(1) if turn else kernel).to(dtype)
    moving = f"{stem}batch_norm.running_mean"
    weights[moving] = (weights[moving].double() - constant).to(dtype)
