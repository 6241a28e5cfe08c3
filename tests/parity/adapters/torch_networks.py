"""Our networks for the cases of ``parity/torch_networks``: other PyTorch repositories' ones."""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from parity.rule import normalized_input
from parity.torch_rule import torch_weight
from torch import Tensor, nn

from deeplab2_d2.backbones import EndpointBackbone
from deeplab2_d2.backbones.hrnet import (
    BranchStageSpec,
    HighResolutionNetwork,
    HighResolutionSpec,
)
from deeplab2_d2.backbones.hrnet.table import high_resolution_spec
from deeplab2_d2.checkpoint.state_dict_names import rename_state_dict
from deeplab2_d2.heads import DecoderSpec, DenseHeads, HeadSpec
from deeplab2_d2.layers import GeneralBlock, Norm
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
    weights = {row["key"]: torch_weight(row["key"], row["shape"]) for row in variables}
    values = {key: torch.from_numpy(value) for key, value in weights.items() if value is not None}
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
            outputs[name] = F.relu(output)
        elif isinstance(output, list):
            outputs.update({f"{name}/{index}": value for index, value in enumerate(output)})
        else:
            outputs[name] = output

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
        self.head = DenseHeads(decoders, heads, backbone.endpoint_shapes, norm=head["norm"])

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        features = self.backbone(images)
        size = (int(images.shape[-2]), int(images.shape[-1]))
        outputs = {f"endpoint/{name}": value for name, value in features.items()}
        for name, maps in self.head(features).items():
            outputs[f"raw/{self.names[name]}"] = maps
            resized = resize_map(maps, self.head.kinds[name], size)
            outputs[f"resized/{self.names[name]}"] = resized
        return outputs


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
    backbone, endpoints = _PANOPTIC_BACKBONES[config["backbone"]](config, norm)
    network = _Panoptic(backbone, config["options"], classes=config["classes"], norm=norm)
    for task in ("semantic", "instance"):
        decoder = getattr(network.head, f"{task}_decoder")
        endpoints[f"{task}/aspp"] = decoder.aspp
        for index in range(len(decoder.low_level_features)):
            endpoints[f"{task}/fuse{index}"] = getattr(decoder, f"fusion_conv{index + 1}")
    return network, endpoints


def _panoptic_hrnet(config: Dict[str, Any], norm: Norm) -> Any:
    width = int(config["backbone"].replace("hrnet", ""))
    return HighResolutionNetwork(spec=_spec({"width": width, **config}), norm=norm), {}


_PANOPTIC_BACKBONES: Dict[str, Callable[[Dict[str, Any], Norm], Any]] = {
    f"hrnet{width}": _panoptic_hrnet for width in (18, 32, 48)
}

_BUILDERS: Dict[str, Build] = {
    "hrnet": _hrnet,
    "hrnet_cls": _hrnet_classifier,
    "panoptic": _panoptic,
}
