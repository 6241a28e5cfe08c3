"""Our networks for the cases of ``parity/networks``, built from each case's own config."""

from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from parity.rule import image_input, normalized_input, weight
from torch import Tensor, nn

from deeplab2_d2.backbones import StackedDecoderNetwork, backbone_names
from deeplab2_d2.checkpoint import config_from_options, load_deeplab2_weights
from deeplab2_d2.models import AveragedSegmenter, average_views
from deeplab2_d2.models.vip_deeplab.network import join_frames
from deeplab2_d2.postprocessing import resize_map
from deeplab2_d2.structures import Encoded, Memory

Arrays = Mapping[str, np.ndarray]

# The reference's names of our maps, where they differ.
_REFERENCE_NAMES = {
    "center_offsets": "offset_map",
    "frame_offsets": "frame_offset_map",
    "next_center_offsets": "next_offset_map",
    "depth": "depth_pred",
}

_MEMORY_NAMES = ("transformer_class_feature", "transformer_mask_feature")

# Images of three channels that a network sees one after the other.
_FRAMES = {"vip_deeplab": ("", "next/")}


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Dict[str, np.ndarray]]:
    """Every output of the network under the reference's names, in whole; None if not ported."""
    backbone = case["config"]["model_options"]["backbone"].get("name", "resnet50")
    architecture = case["meta_architecture"]
    if backbone.startswith("kmax_"):
        architecture = "kmax_deeplab"
    elif backbone not in backbone_names():
        return None
    if case["mode"] == "full_call":
        return _full_call(case) if architecture == "panoptic_deeplab" else None
    cfg = config_from_options(case["config"])
    cfg.MODEL.DEVICE = "cpu"
    frames = _FRAMES.get(architecture, ("",))
    images = torch.from_numpy(normalized_input(case["name"], case["input"]["shape"]))
    inputs = images.permute(0, 3, 1, 2).chunk(len(frames), dim=1)
    predict = _PREDICTIONS.get(architecture)
    model = build_model(cfg) if predict else _EncoderOnly(cfg, inputs[0].shape[1])
    model.eval()
    load_rule_weights(model, case, encoder_only=predict is None)
    outputs, pair = {}, {}
    with torch.inference_mode():
        for prefix, image in zip(frames, inputs):
            endpoints, memory = _encode(model.backbone, image)
            pair[prefix] = endpoints
            for name, features in endpoints.items():
                outputs[f"endpoint/{prefix}{name}"] = _channels_last(features)
            if memory is not None:
                for name, features in zip(_MEMORY_NAMES, memory):
                    outputs[f"endpoint/{prefix}{name}"] = _channels_last(features)
                endpoints = Encoded(endpoints, memory)
        if len(pair) > 1:
            endpoints = join_frames(pair[""], pair["next/"], model.encoder.pair_features)
        if predict is not None:
            outputs.update(predict(model, endpoints, image))
    return outputs


def _encode(backbone: Any, image: Tensor) -> Tuple[Dict[str, Tensor], Optional[Memory]]:
    if isinstance(backbone, StackedDecoderNetwork):
        return backbone.endpoints_and_memory(image)
    return backbone.endpoints(image), None


def _full_call(case: Dict[str, Any]) -> Dict[str, np.ndarray]:
    """The averages over the views that the case's evaluator options ask for."""
    cfg = config_from_options(case["config"])
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    load_rule_weights(model, case, encoder_only=False)
    images = torch.from_numpy(image_input(case["name"], case["input"]["shape"]))
    batch = model.batch([{"image": image} for image in images.permute(0, 3, 1, 2)])
    averaging = AveragedSegmenter.from_config(cfg, [model])
    mean = average_views([model], batch.tensor, scales=averaging.scales, flip=averaging.flip)
    outputs = {
        "full/semantic_logits": _channels_last(mean.maps["semantic_logits"]),
        "full/semantic_probs": _channels_last(mean.probabilities["semantic_logits"]),
    }
    if "center_heatmap" in mean.maps:
        outputs["full/center_heatmap"] = mean.maps["center_heatmap"][:, 0].numpy()
        outputs["full/offset_map"] = _channels_last(mean.maps["center_offsets"])
    return outputs


class _EncoderOnly(nn.Module):
    """The backbone under the name that it has in a model, for heads that are not ported."""

    def __init__(self, cfg: CfgNode, in_channels: int):
        super().__init__()
        self.backbone = build_backbone(cfg, ShapeSpec(channels=in_channels))


def load_rule_weights(model: nn.Module, case: Dict[str, Any], *, encoder_only: bool) -> None:
    """Give the variables of the case their values by the rule; each parameter must have one."""
    variables = {
        row["key"]: weight(row["key"], row["shape"])
        for row in case["variables"]
        if not encoder_only or row["key"].startswith("encoder/")
    }
    report = load_deeplab2_weights(model, variables)
    if not report.is_complete:
        raise ValueError(f"weights do not fit the model: {report.summary()}\n{report.table(20)}")


def _panoptic_deeplab(
    model: nn.Module, endpoints: Mapping[str, Tensor], image: Tensor
) -> Dict[str, np.ndarray]:
    size = (int(image.shape[-2]), int(image.shape[-1]))
    outputs = {}
    for name, maps in model.head(endpoints).items():
        reference = _REFERENCE_NAMES.get(name, name)
        outputs[f"raw/{reference}"] = _channels_last(maps)
        resized = resize_map(maps, model.head.kinds[name], size)
        outputs[f"resized/{reference}"] = _channels_last(resized)
    return outputs


def _max_deeplab(model: nn.Module, endpoints: Encoded, image: Tensor) -> Dict[str, np.ndarray]:
    model.head.has_semantic_in_evaluation = True
    prediction = model.head(endpoints)
    return {
        "raw/pixel_space_mask_logits": _channels_last(prediction["mask_logits"]),
        "raw/pixel_space_normalized_feature": _channels_last(prediction["pixel_features"]),
        "raw/transformer_class_logits": prediction["class_logits"].numpy(),
        "raw/semantic_logits": _channels_last(prediction["semantic_logits"]),
    }


# The pixel decoder's maps from stride 32 on; the last is the masks'.
_DECODED = ("decoder_stage1", "decoder_stage2", "decoder_stage3", "decoder_stage4")


def _kmax_deeplab(
    model: nn.Module, endpoints: Mapping[str, Tensor], image: Tensor
) -> Dict[str, np.ndarray]:
    head = model.head
    head.has_semantic_in_evaluation = head.has_auxiliary_in_evaluation = True
    maps = head.pixel_decoder(endpoints)
    outputs = {f"endpoint/{n}": _channels_last(m) for n, m in zip(_DECODED, maps[:-1])}
    outputs["endpoint/decoder_output"] = _channels_last(maps[-1])
    memory, _ = head.transformer_decoder(maps)
    for name, features in zip(_MEMORY_NAMES, memory):
        outputs[f"endpoint/{name}"] = _channels_last(features)
    for name, values in head(endpoints).items():
        layer, _, part = name.rpartition("/")
        prefix = layer.replace("auxiliary", "auxiliary_outputs_pred/") + "/" if layer else ""
        array = values.numpy() if part == "class_logits" else _channels_last(values)
        outputs[f"raw/{prefix}{_SLOT_NAMES[part]}"] = array
    return outputs


_SLOT_NAMES = {
    "mask_logits": "pixel_space_mask_logits",
    "pixel_features": "pixel_space_normalized_feature",
    "class_logits": "transformer_class_logits",
    "semantic_logits": "semantic_logits",
}


def _semantic_segmentor(
    model: nn.Module, endpoints: Mapping[str, Tensor], image: Tensor
) -> Dict[str, np.ndarray]:
    logits, _ = model.sem_seg_head(endpoints)
    height, width = image.shape[-2:]
    return {
        "raw/semantic_logits": _channels_last(model.sem_seg_head.predict(endpoints)),
        "resized/semantic_logits": _channels_last(logits[:, :, :height, :width]),
    }


_PREDICTIONS: Dict[str, Callable[..., Dict[str, np.ndarray]]] = {
    "panoptic_deeplab": _panoptic_deeplab,
    "motion_deeplab": _panoptic_deeplab,
    "vip_deeplab": _panoptic_deeplab,
    "max_deeplab": _max_deeplab,
    "kmax_deeplab": _kmax_deeplab,
    "deeplab_v3": _semantic_segmentor,
    "deeplab_v3_plus": _semantic_segmentor,
}


def _channels_last(features: Tensor) -> np.ndarray:
    return features.movedim(1, -1).numpy()
