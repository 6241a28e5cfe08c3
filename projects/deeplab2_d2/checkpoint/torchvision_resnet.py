"""ResNets with torchvision's names, such as its ImageNet weights, in a model with Detectron2's."""

import logging
import re
from typing import Any, Dict, List, Mapping, Optional

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from torch import Tensor, nn

from .load import compare_shapes

logger = logging.getLogger(__name__)

# Of every ResNet there, of basic blocks or bottlenecks.
_NAMES = ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.0.bn1.weight")
# torchvision's own, of pixels from 0 to 255 in RGB.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_RENAMED = (
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
)
# More rows would not tell more.
_MAX_ROWS = 8


def is_torchvision_resnet(weights: Mapping[str, Any], model: nn.Module) -> bool:
    """Whether weights are those of a ResNet as torchvision names them, and the model's are not."""
    state = model.state_dict()
    return all(name in weights and name not in state for name in _NAMES)


def detectron2_names(weights: Mapping[str, Any]) -> Dict[str, Tensor]:
    """
    The body of a ResNet under the names that Detectron2's has.

    Args:
        weights: torchvision's names to values.

    Returns:
        Without the classifier and batch norm's counters.
    """
    renamed = {}
    for name, value in weights.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = torch.as_tensor(value)
    return renamed


def fit_torchvision_resnet(
    weights: Mapping[str, Any],
    model: nn.Module,
    twins: Mapping[str, str],
    allow_partial: bool = False,
) -> Dict[str, Tensor]:
    """
    Give a model's ResNet the weights of torchvision's.

    Args:
        weights: torchvision's names to values.
        model: any whose backbone is Detectron2's ResNet, alone or under a pyramid. Its last stage
            may be elsewhere, as in Detectron2's C4 models.
        twins: see :func:`give_to_twins`; their names are left out.
        allow_partial: of a ResNet of another depth or widths give what fits.

    Returns:
        The model's names to values. Whatever else the model has, is not there.

    Raises:
        ValueError: if the model has no such ResNet, or another one: other depth or widths, or the
            stride in the first convolution of a block where torchvision has it in the second.
    """
    bodies = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ResNet) and not name.startswith(tuple(twins))
    }
    if not bodies:
        raise ValueError(
            "MODEL.WEIGHTS: a ResNet with torchvision's names must have a model with Detectron2's "
            "ResNet as backbone (MODEL.BACKBONE.NAME such as build_resnet_backbone or "
            f"build_resnet_fpn_backbone), got a {type(model).__name__} without"
        )
    if any(_has_stride_in_1x1(body) for body in bodies.values()):
        raise ValueError(
            "MODEL.WEIGHTS: a ResNet with torchvision's names must have the config key "
            "MODEL.RESNETS.STRIDE_IN_1X1 False, got True"
        )
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(tuple(twins))
    }
    aligned = align_and_update_state_dicts(state, detectron2_names(weights), c2_conversion=False)
    starts = tuple(f"{name}." for name in bodies)
    wanted = {name: tuple(state[name].shape) for name in state if name.startswith(starts)}
    found = {name: tuple(value.shape) for name, value in aligned.items()}
    # A last stage among the heads is none that every model has.
    wanted.update({name: tuple(state[name].shape) for name in found if name in state})
    report = compare_shapes(found, wanted)
    if not (report.is_complete or allow_partial):
        raise ValueError(
            "MODEL.WEIGHTS: a ResNet with torchvision's names must be the model's (config keys "
            f"MODEL.RESNETS.DEPTH, NUM_GROUPS, WIDTH_PER_GROUP), got {report.summary()}; to load "
            f"what fits, set MODEL.DEEPLAB2.PARTIAL_WEIGHTS True\n{report.table(_MAX_ROWS)}"
        )
    _warn_of_pixels(model)
    return aligned


def _has_stride_in_1x1(body: ResNet) -> bool:
    blocks = (block for block in body.modules() if isinstance(block, BottleneckBlock))
    return any(tuple(block.conv1.stride) != (1, 1) for block in blocks)


def _warn_of_pixels(model: nn.Module) -> None:
    """Say which config keys differ from what the network has learned its images with."""
    wrong: List[str] = []
    order: Optional[str] = getattr(model, "input_format", None)
    if order not in (None, "RGB"):
        wrong.append(f"INPUT.FORMAT RGB, got {order}")
    for key, expected in (("pixel_mean", _MEAN), ("pixel_std", _STD)):
        pixels = getattr(model, key, None)
        if pixels is None:
            continue
        values = [round(float(value), 3) for value in pixels.flatten()]
        is_close = len(values) == 3 and all(abs(a - b) < 0.1 for a, b in zip(values, expected))
        if not is_close:
            wrong.append(f"MODEL.{key.upper()} {list(expected)}, got {values}")
    if wrong:
        logger.warning(
            "weights: a ResNet with torchvision's names has learned with other images than this "
            "config's; it should have %s",
            "; ".join(wrong),
        )
