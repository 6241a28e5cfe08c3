"""Our networks for the cases of ``parity/slim_networks``: Google's release of DeepLab v3+."""

import re
from typing import Any, Callable, Dict, Mapping, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone, build_model
from parity.rule import image_input, normalized_input, slim_weight
from torch import Tensor, nn

from deeplab2_d2.checkpoint import load_deeplab2_weights
from deeplab2_d2.checkpoint.slim_names import CLASSIFIER
from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.models import AveragedSegmenter, average_views
from deeplab2_d2.postprocessing import resize_map

# By how much the best probability is more than the second where labels must be equal.
_CLEAR = 1e-5

# Scopes whose endpoints are outputs of our modules, and which of a module's outputs they are.
_ENDPOINTS: Tuple[Tuple[str, str, int], ...] = (
    (r"xception_\d+/entry_flow/(conv1_\d)", r"backbone.\1", -1),
    (
        r"xception_\d+/(\w+_flow)/block(\d+)/unit_1/xception_module/separable_conv2_pointwise",
        r"backbone.\1.block\2",
        0,
    ),
    (r"xception_\d+/(entry|exit)_flow/block(\d+)", r"backbone.\1_flow.block\2", 1),
    (r"xception_\d+/middle_flow/block1/unit_(\d+)/.*", r"backbone.middle_flow.block\1", 1),
    ("Stem", "backbone.conv2", -1),
    (r"Cell_(\d+)", r"backbone.cells.\1", -1),
    (r"(downsample_os\d+|classification_head)", r"backbone.head.\1", -1),
    ("image_pooling/Relu", "head.aspp.aspp_pool.conv_bn_act", -1),
    ("ResizeBilinear", "head.aspp.aspp_pool", -1),
    ("aspp0/Relu", "head.aspp.conv_bn_act", -1),
    (r"aspp(\d)(_pointwise)?/Relu", r"head.aspp.aspp_conv\1", -1),
    (r"meta_architecture/(branch\d+)_pointwise/Relu", r"head.aspp.\1", -1),
    ("(meta_architecture/)?concat_projection/Relu", "head.aspp.proj_conv_bn_act", -1),
    ("decoder/feature_projection0/Relu", "head.project_conv_bn_act", -1),
    (r"decoder/decoder_conv0(_pointwise)?/Relu", "head.fuse.conv1_bn_act", -1),
    (r"decoder/decoder_conv1(_pointwise)?/Relu", "head.fuse.conv2_bn_act", -1),
)


@torch.no_grad()
def port(case: Dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The outputs and endpoints of a case."""
    weights = {row["key"]: slim_weight(row["key"], row["shape"]) for row in case["variables"]}
    cfg = slim_config(case["config"])
    if case["part"] == "backbone":
        return _backbone(cfg, case, weights)
    model = build_model(cfg).eval()
    _load(model, weights)
    images = torch.from_numpy(image_input(case["name"], case["input"]["shape"]))
    batch = model.batch([{"image": image} for image in images.permute(0, 3, 1, 2)]).tensor
    if case["part"] == "full":
        return _full(cfg, model, batch, arrays["full/semantic"])
    return _model(model, batch, case)


def slim_config(config: Mapping[str, Any]) -> CfgNode:
    """The config of a case's ``ModelOptions``."""
    options, epsilon = config["options"], config["batch_norm_epsilon"]
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    decoder_stride = options["decoder_output_stride"]
    node, decoder = cfg.MODEL.DEEPLAB2, cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2DeepLabV3Plus" if decoder_stride else "DeepLab2DeepLabV3"
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [127.5, 127.5, 127.5]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = options["outputs_to_num_classes"]["semantic"] or 1
    node.NORM.NAME, node.NORM.EPSILON = "BN", epsilon["backbone"]
    node.DEEPLAB.NORM_EPSILON = epsilon["head"]
    if options["model_variant"] == "nas_hnasnet":
        set_auto_deeplab(node, options["nas_architecture_options"])
    else:
        node.BACKBONE.NAME = options["model_variant"]
        node.BACKBONE.OUTPUT_STRIDE = options["output_stride"]
    if options["multi_grid"]:
        node.BACKBONE.XCEPTION.MULTI_GRID = options["multi_grid"]
    separable, dense = "depthwise_separable_conv", "standard_conv"
    decoder.ASPP_CHANNELS = options["aspp_convs_filters"]
    decoder.ASPP_CONV_TYPE = separable if options["aspp_with_separable_conv"] else dense
    decoder.CONV_TYPE = separable if options["decoder_use_separable_conv"] else dense
    decoder.ATROUS_RATES = options["atrous_rates"] or []
    decoder.CHANNELS = options["decoder_filters"] if decoder_stride else 0
    names = {4: "res2", 8: "res3", 16: "res4"}
    decoder.LOW_LEVEL = [[names[stride], 48] for stride in decoder_stride or ()]
    # The tiled mean is that of the pooling's crop.
    cfg.INPUT.CROP.SIZE = list(options["image_pooling_crop_size"] or options["crop_size"])
    node.DEEPLAB.CELL = [
        [branch["input"], *branch["rate"]]
        for branch in options["dense_prediction_cell_config"] or ()
    ]
    cfg.TEST.AUG.ENABLED = "scales" in config
    cfg.TEST.DEEPLAB2.SCALES = config.get("scales", [])
    cfg.TEST.AUG.FLIP = config.get("flip", False)
    return cfg


def set_auto_deeplab(node: CfgNode, options: Mapping[str, Any]) -> None:
    """Auto-DeepLab under ``MODEL.DEEPLAB2``; its F is a multiple of that of the smallest."""
    node.BACKBONE.NAME = "auto_deeplab_s"
    node.BACKBONE.WIDTH_MULTIPLIER = options["nas_stem_output_num_conv_filters"] / 20
    node.BACKBONE.OUTPUT_STRIDE = 16 if options["nas_remove_os32_stride"] else 32
    node.BACKBONE.AUTO_DEEPLAB.HEAD = options["nas_use_classification_head"]
    node.SEMANTIC_DECODER.FEATURE = "backbone_output"


class BackboneOnly(nn.Module):
    """A backbone under the name that it has in a model."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.backbone = build_backbone(cfg)


def _load(model: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    report = load_deeplab2_weights(model, weights)
    if not report.is_complete:
        raise ValueError(f"weights do not fit the model: {report.summary()}\n{report.table(20)}")


def _backbone(
    cfg: CfgNode, case: Dict[str, Any], weights: Dict[str, np.ndarray]
) -> Dict[str, np.ndarray]:
    classifier = {name: weights.pop(name) for name in list(weights) if CLASSIFIER.fullmatch(name)}
    model = BackboneOnly(cfg).eval()
    _load(model, weights)
    image = torch.from_numpy(normalized_input(case["name"], case["input"]["shape"]))
    found, outputs = _record(model, case, lambda: model.backbone(image.permute(0, 3, 1, 2)))
    features = found[cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER.FEATURE]
    if not classifier:
        return {**outputs, "raw/features": _channels_last(features)}
    pooled = _channels_last(features.mean(dim=(2, 3), keepdim=True))
    by_word = {name.rpartition("/")[2]: value for name, value in classifier.items()}
    # That of Auto-DeepLab has no bias.
    logits = pooled @ by_word["weights"][0, 0] + by_word.get("biases", 0.0)
    return {**outputs, "endpoint/global_pool": pooled, "raw/logits": logits}


def _model(model: Any, images: Tensor, case: Dict[str, Any]) -> Dict[str, np.ndarray]:
    prediction, outputs = _record(model, case, lambda: model.predict(images))
    logits = prediction["semantic_logits"]
    # The first resizing outside the decoder; without a pooled branch it is that of the logits, to
    # the size that they have.
    outputs.setdefault("endpoint/ResizeBilinear", _channels_last(logits))
    return {
        **outputs,
        "raw/logits": _channels_last(logits),
        "resized/logits": _channels_last(resize_map(logits, "logits", _size(images))),
    }


def _full(cfg: CfgNode, model: Any, images: Tensor, labels: np.ndarray) -> Dict[str, np.ndarray]:
    averaged = AveragedSegmenter.from_config(cfg, [model], averaging=_averaging())
    mean = average_views(
        [model], images, scales=averaged.scales, flip=averaged.flip, averaging=averaged.averaging
    )
    probabilities = mean.probabilities["semantic_logits"]
    best = probabilities.topk(2, dim=1).values
    # Where the two best are as good as equal, either label is right.
    is_clear = (best[:, 0] - best[:, 1] > _CLEAR).numpy()
    found = probabilities.argmax(1).numpy().astype(np.int32)
    return {
        "full/semantic": np.where(is_clear, found, labels.astype(np.int32)),
        # Theirs is the softmax of the mean softmax.
        "full/semantic_prob": _channels_last(probabilities.softmax(1)),
    }


def _averaging() -> Any:
    from deeplab2_d2.models.deeplab import SemanticDeepLab
    from deeplab2_d2.records import all_records

    return dict(all_records())[SemanticDeepLab].averaging


def _record(
    model: nn.Module, case: Dict[str, Any], run: Callable[[], Any]
) -> Tuple[Any, Dict[str, np.ndarray]]:
    """What a call returns, and the endpoints of the case that it has gone through."""
    outputs: Dict[str, np.ndarray] = {}
    hooks = []
    for endpoint in case["endpoints"]:
        name = endpoint["name"]
        module, part = _module(model, name)
        if module is None:
            continue

        def keep(_: Any, __: Any, output: Any, name: str = name, part: int = part) -> None:
            outputs[f"endpoint/{name}"] = _channels_last(output if part < 0 else output[part])

        hooks.append(module.register_forward_hook(keep))
    result = run()
    for hook in hooks:
        hook.remove()
    return result, outputs


def _module(model: Any, name: str) -> Tuple[Any, int]:
    if re.fullmatch(r"xception_\d+/middle_flow/block1", name):
        return list(model.backbone.middle_flow.children())[-1], 1
    for pattern, ours, part in _ENDPOINTS:
        found = re.fullmatch(pattern, name)
        if found:
            try:
                return model.get_submodule(found.expand(ours)), part
            except AttributeError:
                return None, -1
    return None, -1


def _size(maps: Tensor) -> Tuple[int, int]:
    return int(maps.shape[-2]), int(maps.shape[-1])


def _channels_last(features: Tensor) -> np.ndarray:
    return features.movedim(1, -1).numpy()
