"""
Names of other PyTorch repositories and ours: backbones here, heads in models' records.

A rule is (pattern, module, layer): a name that begins with the pattern is the module's here, and
its rest a tensor of a layer of that kind, see ``_LAYERS``.
"""

import logging
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..records import all_records

logger = logging.getLogger(__name__)

Rule = Tuple[str, str, str]


def _residual(num_convolutions: int) -> Dict[str, str]:
    parts = {"downsample.0.": "shortcut.conv.", "downsample.1.": "shortcut.batch_norm."}
    for number in range(1, num_convolutions + 1):
        ours = f"conv{number}_bn" + ("" if number == num_convolutions else "_act")
        parts[f"conv{number}."] = f"{ours}.conv."
        parts[f"bn{number}."] = f"{ours}.batch_norm."
    return parts


def _xception_module() -> Dict[str, str]:
    parts = {"conv.": "shortcut.conv.", "bn.": "shortcut.batch_norm."}
    for number in (1, 2, 3):
        theirs, ours = f"sep_conv{number}.block.", f"separable_conv{number}."
        parts[f"{theirs}depthwise."] = f"{ours}depthwise.depthwise_conv."
        parts[f"{theirs}bn_depth."] = f"{ours}depthwise.batch_norm."
        parts[f"{theirs}pointwise."] = f"{ours}pointwise.conv."
        parts[f"{theirs}bn_point."] = f"{ours}pointwise.batch_norm."
    return parts


def _unit() -> Dict[str, str]:
    names = {"reduce": "conv1", "conv3x3": "conv2", "increase": "conv3", "shortcut": "shortcut"}
    tensors = {"conv": "conv", "bn": "batch_norm"}
    return {
        f"{theirs}.{tensor}.": f"{ours}.{our_tensor}."
        for theirs, ours in names.items()
        for tensor, our_tensor in tensors.items()
    }


def _detectron2_bottleneck() -> Dict[str, str]:
    parts = {}
    for name in ("conv1", "conv2", "conv3", "shortcut"):
        parts[f"{name}.norm."] = f"{name}.batch_norm."
        parts[f"{name}."] = f"{name}.conv."
    return parts


# Kind of layer: the first words of a name in it, and ours.
_LAYERS: Dict[str, Dict[str, str]] = {
    "as_is": {"": ""},
    "convolution": {"0.": "conv.", "1.": "batch_norm."},
    "named_convolution": {"conv.": "conv.", "bn.": "batch_norm."},
    "conv_norm": {"conv.": "conv.", "norm.": "batch_norm."},
    "depthwise_norm": {"conv.": "depthwise_conv.", "norm.": "batch_norm."},
    "separable": {
        "0.0.": "depthwise.depthwise_conv.",
        "0.1.": "depthwise.batch_norm.",
        "1.": "pointwise.conv.",
        "2.": "pointwise.batch_norm.",
    },
    "basic": _residual(2),
    "bottleneck": _residual(3),
    "xception_module": _xception_module(),
    "unit": _unit(),
    "detectron2_bottleneck": _detectron2_bottleneck(),
    "convnext_block": {
        "dwconv.": "depthwise_conv.",
        "norm.": "norm.",
        "pwconv1.": "pointwise_conv1.",
        "pwconv2.": "pointwise_conv2.",
        "gamma": "layer_scale",
    },
}


@dataclass(frozen=True)
class PublishedBackbone:
    """
    A backbone as another repository names it.

    Attributes:
        mark: pattern of the beginning of names that no other backbone has.
        prefix: pattern of what may stand before the names of the rules.
        rules: of names of this backbone; modules are relative to our backbone.
    """

    mark: str
    prefix: str
    rules: Sequence[Rule]


def _stem(ours: str) -> List[Rule]:
    """The two convolutions that repositories call conv1, bn1, conv2, bn2."""
    rules = []
    for number in (1, 2):
        module = ours.format(number)
        rules.append((rf"conv{number}\.", f"{module}.conv.", "as_is"))
        rules.append((rf"bn{number}\.", f"{module}.batch_norm.", "as_is"))
    return rules


def _hrnet_stage(number: int) -> List[Rule]:
    """
    Transition to and modules of the stage that HRNet counts ``number``.

    Transitions to new branches and fusions to coarser ones are sequences of convolutions.
    """
    stage, module = rf"stage{number}\.(\d+)\.", rf"stages.{number - 2}.\1."
    before, transition = rf"transition{number - 1}\.(\d)\.", rf"transitions.{number - 2}.\1."
    fusion = stage + r"fuse_layers\.(\d)\.(\d)\."
    return [
        (before + r"0\.(?=\d\.)", transition, "convolution"),
        (before, transition, "convolution"),
        (stage + r"branches\.(\d)\.(\d+)\.", module + r"branches.\2.\3.", "basic"),
        (fusion + r"(\d)\.(?=\d\.)", module + r"fusions.\2.\3.\4.", "convolution"),
        (fusion, module + r"fusions.\2.\3.0.", "convolution"),
    ]


def _xception_block(number: int) -> Rule:
    flow, first = next(
        (flow, first)
        for flow, first in (("exit_flow", 20), ("middle_flow", 4), ("entry_flow", 1))
        if number >= first
    )
    return rf"block{number}\.", f"{flow}.block{number - first + 1}.", "xception_module"


BACKBONES: Tuple[PublishedBackbone, ...] = (
    # HRNet-Image-Classification, HRNet-Semantic-Segmentation and bowenc0221/panoptic-deeplab.
    PublishedBackbone(
        mark=r"(backbone\.)?stage2\.0\.branches\.",
        prefix=r"(?:backbone\.)?",
        rules=[
            *_stem("conv{}"),
            (r"layer1\.(\d+)\.", r"first_stage.\1.", "bottleneck"),
            *(rule for number in (2, 3, 4) for rule in _hrnet_stage(number)),
            (r"incre_modules\.(\d)\.0\.", r"trunk.increase.\1.", "bottleneck"),
            (r"downsamp_modules\.(\d)\.", r"trunk.downsample.\1.", "convolution"),
            (r"final_layer\.(?=\d)", "trunk.project.", "convolution"),
        ],
    ),
    # bowenc0221/panoptic-deeplab.
    PublishedBackbone(
        mark=r"(backbone\.)?block1\.sep_conv1\.",
        prefix=r"(?:backbone\.)?",
        rules=[*_stem("conv1_{}"), *(_xception_block(number) for number in range(1, 22))],
    ),
    # kazuto1011/deeplab-pytorch.
    PublishedBackbone(
        mark=r"((base|scale)\.)?layer2\.block1\.reduce\.",
        prefix=r"(?:(?:base|scale)\.)?",
        rules=[
            (r"layer1\.conv1\.", "conv1_1.", "named_convolution"),
            *(
                (rf"layer{number}\.block(\d+)\.", rf"block{number - 1}.unit\1.", "unit")
                for number in range(2, 6)
            ),
        ],
    ),
    # bytedance/kmax-deeplab: Detectron2's ResNet-50, and ConvNeXt. Detectron2's own models have a
    # backbone of these names, too, so that the mark is of a head.
    PublishedBackbone(
        mark=r"sem_seg_head\.pixel_decoder\._in_norms\.",
        prefix=r"backbone\.",
        rules=[
            (r"stem\.conv1\.norm\.", "conv1_1.batch_norm.", "as_is"),
            (r"stem\.conv1\.", "conv1_1.conv.", "as_is"),
            *(
                (
                    rf"res{number}\.{index}\.",
                    f"block{number - 1}.unit{index + 1}.",
                    "detectron2_bottleneck",
                )
                for number, num_units in enumerate((3, 4, 6, 3), start=2)
                for index in range(num_units)
            ),
            (r"downsample_layers\.", "downsample_layers.", "as_is"),
            (r"(stages\.\d\.\d+\.)", r"\1", "convnext_block"),
        ],
    ),
)

# Before names, where a wrapper stood around the network.
_WRAPPERS = re.compile(r"(module\.|model\.)+")


def rename_state_dict(weights: Mapping[str, Any]) -> Optional[Tuple[Dict[str, Any], List[str]]]:
    """
    A state dict of another repository under our names.

    Args:
        weights: name to value.

    Returns:
        Our names to values, and the names that no model of ours has (ImageNet's classifier). None
        if it is no such state dict.
    """
    backbone = next((one for one in BACKBONES if _has_mark(weights, one)), None)
    if backbone is None:
        return None
    renamed, unknown = {}, []
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        ours = published_name(name, backbone)
        if ours is None:
            unknown.append(name)
        else:
            renamed[ours] = _in_our_layout(_unwrapped(name), value)
    return renamed, unknown


def _in_our_layout(name: str, value: Any) -> Any:
    for _, record in all_records():
        for pattern, note in record.state_dict_notes:
            if re.match(pattern, name):
                logger.warning("weights: %s", note)
        for pattern, to_ours in record.state_dict_layouts:
            if re.match(pattern, name):
                return to_ours(name, value).contiguous()
    return value


def _has_mark(weights: Mapping[str, Any], backbone: PublishedBackbone) -> bool:
    mark = re.compile(backbone.mark)
    return any(mark.match(_unwrapped(name)) for name in weights)


def _unwrapped(name: str) -> str:
    match = _WRAPPERS.match(name)
    return name[match.end() :] if match else name


def published_name(name: str, backbone: PublishedBackbone) -> Optional[str]:
    """Our name for a tensor of another repository's state dict; None for one that is not known."""
    name = _unwrapped(name)
    for pattern, module, layer in _rules(backbone):
        match = re.match(pattern, name)
        if match is None:
            continue
        rest = name[match.end() :]
        for theirs, ours in _LAYERS[layer].items():
            if rest.startswith(theirs):
                return match.expand(module) + ours + rest[len(theirs) :]
    return None


def _rules(backbone: PublishedBackbone) -> List[Rule]:
    rules = [
        (backbone.prefix + pattern, "backbone." + module, layer)
        for pattern, module, layer in backbone.rules
    ]
    for _, record in all_records():
        rules += record.state_dict_rules
    return rules
