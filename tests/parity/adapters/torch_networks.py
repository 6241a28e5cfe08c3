"""Our networks for the cases of ``parity/torch_networks``: other PyTorch repositories' ones."""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from parity.rule import normalized_input, torch_weight
from torch import Tensor, nn

from deeplab2_d2.backbones import XCEPTION_NETWORKS, EndpointBackbone, XceptionNetwork
from deeplab2_d2.backbones.hrnet import (
    BranchStageSpec,
    HighResolutionNetwork,
    HighResolutionSpec,
)
from deeplab2_d2.backbones.hrnet.branches import enlarge
from deeplab2_d2.backbones.hrnet.table import high_resolution_spec
from deeplab2_d2.backbones.plain_resnet import PlainResNet, PlainResNetSpec
from deeplab2_d2.checkpoint.state_dict_names import rename_state_dict
from deeplab2_d2.heads import DecoderSpec, DenseHeads, HeadSpec
from deeplab2_d2.layers import GeneralBlock, Norm
from deeplab2_d2.models.deeplab.classifiers import ClassifierSpec, SummedClassifiers
from deeplab2_d2.models.deeplab.decoders import ConcatenatedDecoder
from deeplab2_d2.postprocessing import resize_map

Outputs = Dict[str, np.ndarray]
# A case's config to the network, which returns its outputs by name, and to modules of it by the
# names of the case's endpoints.
Build = Callable[[Dict[str, Any], Norm], Tuple[nn.Module, Mapping[str, nn.Module]]]


def port(case: Dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Optional[Outputs]:
    """What our network predicts for a case; None for a network that is not ported."""
    build = _BUILDERS.get(case["config"]["build"])
    if build is None:
        return None
    norm = Norm("BN", epsilon=case["config"]["batch_norm_epsilon"])
    torch.manual_seed(0)
    network, endpoints = build(case["config"], norm)
    load_rule_weights(network, case["variables"])
    outputs: Dict[str, Tensor] = {}
    for name, module in endpoints.items():
        module.register_forward_hook(_keep(outputs, f"endpoint/{name}"))
    images = torch.from_numpy(normalized_input(case["name"], case["input"]["shape"]))
    with torch.no_grad():
        outputs.update(network.eval()(images.permute(0, 3, 1, 2)))
    return {name: _channels_last(value) for name, value in outputs.items()}


def load_rule_weights(network: nn.Module, variables: Sequence[Mapping[str, Any]]) -> None:
    """
    Give the entries of the case's state dict their values by the rule.

    Raises:
        ValueError: if an entry is not used or a parameter has none.
    """
    values = {
        row["key"]: torch.from_numpy(torch_weight(row["key"], row["shape"])) for row in variables
    }
    renamed = rename_state_dict(values)
    if renamed is None:
        raise ValueError(f"the names are not known: {list(values)[:3]}, ...")
    state, unknown = renamed
    state.update({f"classifier.{name.partition('.')[2]}": values[name] for name in unknown})
    report = network.load_state_dict(state, strict=False)
    missing = [name for name in report.missing_keys if "num_batches_tracked" not in name]
    if missing or report.unexpected_keys:
        raise ValueError(f"missing {missing[:5]}, unexpected {report.unexpected_keys[:5]}")


def _keep(outputs: Dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, GeneralBlock):
            # Here the next layer activates it.
            output = F.relu(output)
        elif isinstance(output, tuple):
            # Of a residual unit, whose first part is what it adds.
            output = output[1]
        parts = {f"{name}/{index}": value for index, value in enumerate(output)}
        # The first time is that of the whole image.
        for key, value in (parts if isinstance(output, list) else {name: output}).items():
            outputs.setdefault(key, value)

    return hook


def _channels_last(value: Tensor) -> np.ndarray:
    return value.movedim(1, -1).numpy() if value.ndim == 4 else value.numpy()


def _spec(config: Mapping[str, Any], keeps_head: bool = False) -> HighResolutionSpec:
    if "stages" not in config:
        width = config.get("width", 48)
        return high_resolution_spec((width, 2 * width, 4 * width, 8 * width))
    first = config["stages"]["STAGE1"]
    stages = [config["stages"][f"STAGE{number}"] for number in (2, 3, 4)]
    return HighResolutionSpec(
        tuple(
            BranchStageSpec(
                stage["NUM_MODULES"], tuple(stage["NUM_BLOCKS"]), tuple(stage["NUM_CHANNELS"])
            )
            for stage in stages
        ),
        first_width=first["NUM_CHANNELS"][0],
        first_blocks=first["NUM_BLOCKS"][0],
        keeps_head=keeps_head,
    )


def _hrnet_endpoints(backbone: HighResolutionNetwork) -> Dict[str, nn.Module]:
    # Of the first stage only the activation that follows it has the reference's values.
    endpoints: Dict[str, nn.Module] = {"layer1": backbone.activation}
    for number, stage in enumerate(backbone.stages, start=2):
        endpoints[f"stage{number}"] = stage
    return endpoints


class _Branches(nn.Module):
    def __init__(self, backbone: HighResolutionNetwork):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        return {f"raw/{name}": value for name, value in self.backbone(images).items()}


def _hrnet(config: Dict[str, Any], norm: Norm) -> Tuple[nn.Module, Dict[str, nn.Module]]:
    backbone = HighResolutionNetwork(spec=_spec(config), norm=norm)
    return _Branches(backbone), _hrnet_endpoints(backbone)


class _Classifier(nn.Module):
    """ImageNet's classifier on the last features' mean."""

    def __init__(self, backbone: HighResolutionNetwork, num_classes: int):
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(
            int(backbone.endpoint_shapes["backbone_output"].channels or 0), num_classes
        )

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        last = self.backbone(images)["backbone_output"]
        return {"raw/logits": self.classifier(last.mean(dim=(2, 3)))}


def _hrnet_classifier(config: Dict[str, Any], norm: Norm) -> Tuple[nn.Module, Dict[str, nn.Module]]:
    spec = _spec(config, keeps_head=True)
    backbone = HighResolutionNetwork(spec=spec, norm=norm, fusion="nearest")
    endpoints, trunk = _hrnet_endpoints(backbone), backbone.trunk
    assert trunk is not None
    endpoints.update({f"incre{index}": block for index, block in enumerate(trunk.increase)})
    endpoints.update({f"downsamp{index}": layer for index, layer in enumerate(trunk.downsample)})
    endpoints["final_layer"] = trunk.project
    return _Classifier(backbone, config.get("classes", 1000)), endpoints


class _Segmentor(nn.Module):
    def __init__(self, backbone: HighResolutionNetwork, num_classes: int, norm: Norm):
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = ConcatenatedDecoder(
            input_shape=backbone.endpoint_shapes,
            decoder=DecoderSpec("backbone_output", (), channels=0, aspp_channels=0),
            num_classes=num_classes,
            norm=norm,
        )

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        return {"raw/logits": self.sem_seg_head.predict(self.backbone(images))}


def _hrnet_segmentor(config: Dict[str, Any], norm: Norm) -> Tuple[nn.Module, Dict[str, nn.Module]]:
    fusion = "aligned" if config["align_corners"] else "unaligned"
    backbone = HighResolutionNetwork(
        spec=_spec(config), norm=norm, fusion=fusion, concatenates=True
    )
    return _Segmentor(backbone, config["classes"], norm), _hrnet_endpoints(backbone)


class _Panoptic(nn.Module):
    """Panoptic-DeepLab's decoders and heads on a backbone."""

    # Our maps and the reference's names of them.
    names = {
        "semantic_logits": "semantic",
        "center_heatmap": "center",
        "center_offsets": "offset",
    }

    def __init__(self, backbone: EndpointBackbone, options: Mapping[str, Any], **head: Any):
        super().__init__()
        self.backbone = backbone
        decoders = {
            f"{task}_decoder": _decoder(options, prefix)
            for task, prefix in (("semantic", ""), ("instance", "instance_"))
        }
        channels = options["instance_head_channels"]
        rows = (
            ("semantic_logits", "logits", head["classes"], "semantic", options["decoder_channels"]),
            ("center_heatmap", "heatmap", 1, "instance", channels),
            ("center_offsets", "offset", 2, "instance", channels),
        )
        heads = [
            HeadSpec(name, kind, count, f"{self.names[name]}_head", f"{task}_decoder", width)
            for name, kind, count, task, width in rows
        ]
        shapes = _as_theirs(backbone.endpoint_shapes)
        self.head = DenseHeads(decoders, heads, shapes, norm=head["norm"])

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        features = _as_theirs(self.backbone(images))
        size = (int(images.shape[-2]), int(images.shape[-1]))
        outputs = {f"endpoint/{name}": value for name, value in features.items()}
        for name, maps in self.head(features).items():
            outputs[f"raw/{self.names[name]}"] = maps
            resized = resize_map(maps, self.head.kinds[name], size)
            outputs[f"resized/{self.names[name]}"] = resized
        return outputs


def _as_theirs(features: Mapping[str, Any]) -> Dict[str, Any]:
    """Features of Xception by bowenc0221's names."""
    middle = features.get("middle_flow")
    return dict(features) if middle is None else {**features, "res4": middle}


def _decoder(options: Mapping[str, Any], prefix: str) -> DecoderSpec:
    names = options["low_level_key"]
    aspp = options.get(prefix + "aspp_channels", options["decoder_channels"])
    return DecoderSpec(
        feature=options["feature_key"],
        low_level=tuple(zip(names, options[prefix + "low_level_channels_project"])),
        channels=options[prefix + "decoder_channels"],
        aspp_channels=aspp,
        atrous_rates=tuple(options["atrous_rates"]),
        aspp_has_pool_norm=False,
    )


def _panoptic(config: Dict[str, Any], norm: Norm) -> Tuple[nn.Module, Dict[str, nn.Module]]:
    backbone, endpoints = _panoptic_backbone(config, norm)
    network = _Panoptic(backbone, config["options"], classes=config["classes"], norm=norm)
    for task in ("semantic", "instance"):
        decoder = getattr(network.head, f"{task}_decoder")
        endpoints[f"{task}/aspp"] = decoder.aspp
        for index in range(len(decoder.low_level_features)):
            endpoints[f"{task}/fuse{index}"] = getattr(decoder, f"fusion_conv{index + 1}")
    return network, endpoints


def _panoptic_backbone(config: Dict[str, Any], norm: Norm) -> Tuple[Any, Dict[str, nn.Module]]:
    name = config["backbone"]
    if name.startswith("hrnet"):
        spec = _spec({"width": int(name[len("hrnet") :]), **config})
        return HighResolutionNetwork(spec=spec, norm=norm), {}
    is_dense = config.get("dilation", [False, False, False])
    backbone = XceptionNetwork(
        specs=XCEPTION_NETWORKS[f"xception_{name[len('xception') :]}"],
        norm=norm,
        output_stride=8 if is_dense[0] else 16 if is_dense[1] else 32,
    )
    return backbone, {"stem": backbone.conv1_2}


class _DeepLabV2(nn.Module):
    """Multi-scale inputs, by half-pixel resizing, and classifiers whose scores are summed."""

    def __init__(self, config: Mapping[str, Any], norm: Norm):
        super().__init__()
        self.backbone = PlainResNet(
            spec=PlainResNetSpec(tuple(config["blocks"])),
            norm=norm,
            output_stride=8,
            rounds_up=True,
        )
        self.head = SummedClassifiers(
            input_shape=self.backbone.output_shape(),
            spec=ClassifierSpec("res5", tuple(config["rates"]), hidden_channels=0),
            num_classes=config["classes"],
        )
        self.scales = tuple(config.get("scales", ()))

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        logits = self.head.predict(self.backbone(images))
        size = (int(logits.shape[-2]), int(logits.shape[-1]))
        for scale in self.scales:
            # The factor, not the rounded size, says where pixels come from.
            view = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
            part = self.head.predict(self.backbone(view))
            logits = torch.maximum(logits, enlarge(part, size, "unaligned"))
        return {"raw/logits": logits}


def _deeplab_v2(config: Dict[str, Any], norm: Norm) -> Tuple[nn.Module, Dict[str, nn.Module]]:
    network = _DeepLabV2(config, norm)
    endpoints: Dict[str, nn.Module] = {"layer1": network.backbone.pool}
    for number in range(2, 6):
        units = getattr(network.backbone, f"block{number - 1}")
        endpoints[f"layer{number}"] = list(units.values())[-1]
    for index, branch in enumerate(network.head.branches):
        endpoints[f"aspp/c{index}"] = branch
    return network, endpoints


_BUILDERS: Dict[str, Build] = {
    "hrnet": _hrnet,
    "hrnet_cls": _hrnet_classifier,
    "hrnet_seg": _hrnet_segmentor,
    "panoptic": _panoptic,
    "deeplab_v2": _deeplab_v2,
}
