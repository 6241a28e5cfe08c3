"""Our networks for the cases of ``parity/networks``, built from each case's own config."""

from typing import Any, Dict, Mapping, Optional

import numpy as np
import torch
from detectron2.modeling import build_backbone
from parity.rule import normalized_input, weight
from torch import Tensor, nn

import deeplab2_d2.backbones  # noqa: F401  Registers them.
from deeplab2_d2.checkpoint import config_from_options, load_deeplab2_weights
from deeplab2_d2.heads import PanopticDeepLabHead
from deeplab2_d2.layers import resize_align_corners
from deeplab2_d2.structures import PanopticDeepLabPrediction

Arrays = Mapping[str, np.ndarray]


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Dict[str, np.ndarray]]:
    """Every output of the network under the reference's names, in whole; None if not ported."""
    ports = {"panoptic_deeplab": _panoptic_deeplab}
    architecture = case["meta_architecture"]
    if architecture not in ports or case["mode"] != "encoder_decoder":
        return None
    cfg = config_from_options(case["config"])
    cfg.MODEL.DEVICE = "cpu"
    model = _Network(cfg).eval()
    load_rule_weights(model, case)
    images = normalized_input(case["name"], case["input"]["shape"])
    with torch.inference_mode():
        return ports[architecture](model, torch.from_numpy(images).permute(0, 3, 1, 2))


class _Network(nn.Module):
    def __init__(self, cfg: Any):
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.head = PanopticDeepLabHead(cfg, self.backbone.output_shape())


def load_rule_weights(model: nn.Module, case: Dict[str, Any]) -> None:
    """Give every variable of the case its value by the rule; each must have a place."""
    variables = {row["key"]: weight(row["key"], row["shape"]) for row in case["variables"]}
    report = load_deeplab2_weights(model, variables)
    if not report.is_complete:
        raise ValueError(f"weights do not fit the model: {report.summary()}\n{report.table(20)}")


def _panoptic_deeplab(model: nn.Module, images: Tensor) -> Dict[str, np.ndarray]:
    endpoints = model.backbone.endpoints(images)
    names = model.backbone.output_shape()
    prediction = model.head({name: endpoints[name] for name in names})
    outputs = {f"endpoint/{name}": _nhwc(features) for name, features in endpoints.items()}
    raw = _named(prediction)
    size = tuple(images.shape[-2:])
    for name, features in raw.items():
        outputs[f"raw/{name}"] = _nhwc(features)
        outputs[f"resized/{name}"] = _nhwc(_resize(name, features, size))
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


def _nhwc(features: Tensor) -> np.ndarray:
    return features.permute(0, 2, 3, 1).numpy()
