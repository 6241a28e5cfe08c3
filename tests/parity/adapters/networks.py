"""Our networks for the cases of ``parity/networks``, built from each case's own config."""

from typing import Any, Dict, Mapping, Optional

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from parity.rule import normalized_input, weight
from torch import Tensor, nn

import deeplab2_d2.backbones  # noqa: F401  Registers them.
from deeplab2_d2.checkpoint import config_from_options, load_deeplab2_weights
from deeplab2_d2.heads import PanopticDeepLabHead
from deeplab2_d2.layers import resize_align_corners
from deeplab2_d2.structures import PanopticDeepLabPrediction

Arrays = Mapping[str, np.ndarray]

# Images of three channels that a network sees one after the other.
_FRAMES = {"vip_deeplab": ("", "next/")}


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Dict[str, np.ndarray]]:
    """Every output of the network under the reference's names, in whole; None if not ported."""
    name = case["config"]["model_options"]["backbone"].get("name", "resnet50")
    if case["mode"] != "encoder_decoder" or name not in deeplab2_d2.backbones.BACKBONE_NAMES:
        return None
    cfg = config_from_options(case["config"])
    cfg.MODEL.DEVICE = "cpu"
    images = normalized_input(case["name"], case["input"]["shape"])
    frames = _FRAMES.get(case["meta_architecture"], ("",))
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).chunk(len(frames), dim=1)
    model = _Network(cfg, inputs[0].shape[1], has_head=_HEAD in case["config"]["model_options"])
    load_rule_weights(model, case)
    outputs = {}
    with torch.inference_mode():
        for prefix, image in zip(frames, inputs):
            endpoints = model.backbone.endpoints(image)
            for name, features in endpoints.items():
                outputs[f"endpoint/{prefix}{name}"] = _channels_last(features)
        if model.head is not None:
            outputs.update(_predictions(model.head, endpoints, inputs[0]))
    return outputs


_HEAD = "panoptic_deeplab"


class _Network(nn.Module):
    def __init__(self, cfg: Any, in_channels: int, has_head: bool):
        super().__init__()
        self.backbone = build_backbone(cfg, ShapeSpec(channels=in_channels))
        self.head = PanopticDeepLabHead(cfg, self.backbone.output_shape()) if has_head else None
        self.eval()


def load_rule_weights(model: nn.Module, case: Dict[str, Any]) -> None:
    """Give the variables of the case their values by the rule; each parameter must have one."""
    variables = {
        row["key"]: weight(row["key"], row["shape"])
        for row in case["variables"]
        if model.head is not None or row["key"].startswith("encoder/")
    }
    report = load_deeplab2_weights(model, variables)
    if not report.is_complete:
        raise ValueError(f"weights do not fit the model: {report.summary()}\n{report.table(20)}")


def _predictions(
    head: nn.Module, endpoints: Mapping[str, Tensor], images: Tensor
) -> Dict[str, np.ndarray]:
    outputs = {}
    size = (images.shape[-2], images.shape[-1])
    for name, features in _named(head(endpoints)).items():
        outputs[f"raw/{name}"] = _channels_last(features)
        outputs[f"resized/{name}"] = _channels_last(_resize(name, features, size))
    return outputs


def _named(prediction: PanopticDeepLabPrediction) -> Dict[str, Tensor]:
    named = {
        "semantic_logits": prediction.semantic_logits,
        "center_heatmap": prediction.center_heatmap,
        "offset_map": prediction.center_offsets,
    }
    return {name: features for name, features in named.items() if features is not None}


def _resize(name: str, features: Tensor, size: Any) -> Tensor:
    resized = resize_align_corners(features, size)
    if "offset" not in name:
        return resized
    scales = [(new - 1) / (old - 1) for new, old in zip(size, features.shape[-2:])]
    return resized * torch.tensor(scales).view(1, 2, 1, 1)


def _channels_last(features: Tensor) -> np.ndarray:
    return features.movedim(1, -1).numpy()
