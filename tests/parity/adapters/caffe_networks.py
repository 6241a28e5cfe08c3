"""Our networks for the cases of ``parity/caffe_networks``: DeepLab v1 and v2 as their authors'."""

import re
from typing import Any, Callable, Dict, Mapping, Match, Optional, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from parity.rule import normalized_input, torch_weight
from torch import Tensor, nn

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.layers import resize_align_corners
from deeplab2_d2.models.averaging import scale_grid
from deeplab2_d2.models.deeplab.classifiers import SideClassifier

Rules = Tuple[Tuple[str, Callable[[Match[str]], str]], ...]

_CONVS = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}
_SCALES = {"res05": 0.5, "res075": 0.75}


def _unit(stage: str, unit: str) -> str:
    """Units are a, b, c or, of long stages, a, b1, b2, ..."""
    number = int(unit[1:]) + 1 if len(unit) > 1 else ord(unit) - ord("a") + 1
    return f"backbone.block{int(stage) - 1}.unit{number}"


def _side(name: str) -> str:
    return "head.side_branches." + ("image" if name == "data" else f"res{name[-1]}")


def _branch(number: str) -> str:
    return f"head.branches.{int(number) - 1}"


# Names of layers with parameters, and our modules. A BatchNorm and a Scale are one norm here.
_LAYERS: Rules = (
    (r"(conv\d_\d)", lambda m: f"backbone.{m[1]}.conv"),
    (r"(fc[67])", lambda m: f"{_branch('1')}.{m[1]}.conv"),
    (r"(fc[67])_(\d)", lambda m: f"{_branch(m[2])}.{m[1]}.conv"),
    (r"fc8_[a-z]+\d+", lambda m: f"{_branch('1')}.final_conv"),
    (r"fc8_\w+_(\d)", lambda m: f"{_branch(m[1])}.final_conv"),
    (r"fc1_\w+_c(\d)", lambda m: f"head.branches.{m[1]}.final_conv"),
    (r"(data|pool\d)_conv", lambda m: f"{_side(m[1])}.conv"),
    (r"(data|pool\d)_fc", lambda m: f"{_side(m[1])}.hidden_conv"),
    (r"(data|pool\d)_ms", lambda m: f"{_side(m[1])}.final_conv"),
    (r"conv1", lambda m: "backbone.conv1_1.conv"),
    (r"(bn|scale)_conv1", lambda m: "backbone.conv1_1.batch_norm"),
    (r"res(\d)([a-z]\d*)_(branch\w+)", lambda m: f"{_unit(m[1], m[2])}.{_CONVS[m[3]]}.conv"),
    (
        r"(?:bn|scale)(\d)([a-z]\d*)_(branch\w+)",
        lambda m: f"{_unit(m[1], m[2])}.{_CONVS[m[3]]}.batch_norm",
    ),
)
# Names of blobs, after their in-place layers, and the modules that they come out of.
_BLOBS: Rules = (
    (r"pool5a", lambda m: "head.pool"),
    (r"(conv\d_\d)", lambda m: f"backbone.{m[1]}"),
    (r"(fc[67])", lambda m: f"{_branch('1')}.{m[1]}"),
    (r"(fc[67])_(\d)", lambda m: f"{_branch(m[2])}.{m[1]}"),
    (r"fc8_\w+_(\d)", lambda m: _branch(m[1])),
    (r"fc1_\w+_c(\d)", lambda m: f"head.branches.{m[1]}"),
    (r"(data|pool\d)_ms", lambda m: _side(m[1])),
    (r"res(\d)([a-z]\d*)", lambda m: _unit(m[1], m[2])),
)


@torch.no_grad()
def port(case: Dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The scores and blobs of a case."""
    model: Any = build_model(_config(case, arrays)).eval()
    _set_side_channels(model, case)
    _load(model, case)
    images = torch.from_numpy(normalized_input(case["name"], case["input"]["shape"]))
    images = images.permute(0, 3, 1, 2)
    blobs: Dict[str, Tensor] = {}
    hooks = [_keep(model, endpoint["name"], blobs) for endpoint in case["endpoints"]]
    scores = model.head(model.backbone(images))["semantic_logits"]
    for hook in hooks:
        if hook is not None:
            hook.remove()
    if any(endpoint["name"].startswith("data_res") for endpoint in case["endpoints"]):
        blobs["fc1_voc12"] = scores
        for name, scale in _SCALES.items():
            view = resize_align_corners(images, scale_grid(images.shape[-2:], scale))
            blobs[f"data_{name}"] = view
            blobs[f"fc1_voc12_{name}"] = model.head(model.backbone(view))["semantic_logits"]
    scores = model.predict(images)["semantic_logits"]
    stride = 1 if model.head.side_branches else model.head.stride
    height, width = ((side - 1) * stride + 1 for side in scores.shape[-2:])
    return {
        **{f"endpoint/{name}": _channels_last(blob) for name, blob in blobs.items()},
        "raw/logits": _channels_last(scores),
        "resized/logits": _channels_last(resize_align_corners(scores, (height, width))),
    }


def _config(case: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CfgNode:
    shapes = {row["key"]: row["shape"] for row in case["variables"]}
    is_vgg, is_deep = "conv1_1.weight" in shapes, "conv1.weight" in shapes
    assert is_vgg or is_deep
    first = next(key for key in shapes if re.fullmatch(r"fc(6|6_1|1_\w+_c0)\.weight", key))
    has_many = first != "fc6.weight"
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    node = cfg.MODEL.DEEPLAB2
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2DeepLabV2" if has_many else "DeepLab2DeepLabV1"
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = case["config"]["classes"]
    node.NORM.NAME, node.NORM.EPSILON = "FrozenBN", 1e-5
    node.BACKBONE.NAME = "vgg16" if is_vgg else "resnet101_caffe"
    node.BACKBONE.OUTPUT_STRIDE = 8
    node.BACKBONE["VGG" if is_vgg else "PLAIN_RESNET"].CEIL_POOLING = True
    channels = shapes["conv1_1.weight" if is_vgg else "conv1.weight"][0]
    node.BACKBONE.WIDTH_MULTIPLIER = channels / 64
    node.DEEPLAB.HIDDEN_CHANNELS = shapes[first][0] if is_vgg else 0
    if any(key.startswith("data_conv") for key in shapes):
        node.DEEPLAB.SIDE_FEATURES = ["image", "res1", "res2", "res3", "res4"]
    layers = case["config"]["layers"]
    if isinstance(layers, list):
        pattern = re.compile(r"fc6(_\d)?|fc1_\w+_c\d")
        named = {layer["name"]: layer for layer in layers if pattern.fullmatch(layer["name"])}
        node.DEEPLAB.RATES = [int(layer.get("dilation", 1)) for layer in named.values()]
    if not is_vgg and "msc" in case["name"]:
        node.DEEPLAB.INPUT_SCALES = [0.75, 0.5]
    return cfg


def _set_side_channels(model: Any, case: Mapping[str, Any]) -> None:
    """Side classifiers as narrow as the case's, which no config key changes."""
    widths = [row["shape"][0] for row in case["variables"] if row["key"] == "data_conv.weight"]
    for name, branch in list(model.head.side_branches.items()) if widths else ():
        in_channels, num_classes = branch.conv.in_channels, branch.final_conv.out_channels
        narrow = SideClassifier(in_channels, num_classes, channels=widths[0], training_stride=1)
        model.head.side_branches[name] = narrow.eval()


def _load(model: nn.Module, case: Mapping[str, Any]) -> None:
    """Give the layers of the case their values by the rule; each parameter must have one."""
    values: Dict[str, Tensor] = {}
    for row in case["variables"]:
        layer, _, tensor = row["key"].rpartition(".")
        module = _translate(_LAYERS, layer)
        if module is None:
            raise ValueError(f"layer {layer} must be of our network")
        values[f"{module}.{tensor}"] = torch.from_numpy(torch_weight(row["key"], row["shape"]))
    model.load_state_dict(values)


def _translate(rules: Rules, name: str) -> Optional[str]:
    for pattern, ours in rules:
        found = re.fullmatch(pattern, name)
        if found:
            return ours(found)
    return None


def _keep(model: Any, name: str, blobs: Dict[str, Tensor]) -> Any:
    """Let a blob be kept; None of one that is no module's output."""
    module = _translate(_BLOBS, name)
    if module is None and re.fullmatch(r"pool\d", name):
        module = f"backbone.{name}" if hasattr(model.backbone, name) else "backbone.pool"
    if module is None:
        return None

    def keep(_: Any, __: Any, output: Any) -> None:
        blobs[name] = output[1] if isinstance(output, tuple) else output

    return model.get_submodule(module).register_forward_hook(keep)


def _channels_last(features: Tensor) -> np.ndarray:
    return features.movedim(1, -1).numpy()
