"""Our layers for the cases of ``parity/layers``: the reference's arguments to ours, and back."""

import ast
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from parity.adapters import stages
from parity.rule import weight
from torch import Tensor, nn

from deeplab2_d2 import layers
from deeplab2_d2.backbones.mobile_network import make_divisible
from deeplab2_d2.checkpoint import parameter_for_key
from deeplab2_d2.data.resizing import resize_nearest
from deeplab2_d2.heads import Decoder, DecoderSpec, FusionConvs, PredictionHead
from deeplab2_d2.layers import Norm
from deeplab2_d2.postprocessing import resize_map

Arrays = Mapping[str, np.ndarray]
Kwargs = Dict[str, Any]
# A module (None for a function), and how it is called with the case's inputs.
Port = Tuple[Optional[nn.Module], Callable[..., Any]]

_NORM = Norm("BN")


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Dict[str, np.ndarray]]:
    """The layer's outputs, and its moving statistics after training; None if not ported."""
    build = _PORTS.get(case["target"].rpartition(".")[2])
    if build is None:
        return None
    inputs = _inputs(arrays)
    built = build(_Call(case["kwargs"], inputs, case.get("after"), case["target"]))
    if built is None:
        return None
    module, call = built
    if module is not None:
        module.train(case["training"])
        _load(module, case["variables"])
    with torch.no_grad():
        outputs = _named_outputs(call(*inputs))
    if case["training"]:
        outputs.update(_statistics(module, case["variables"]))
    return outputs


class _Call:
    """A case's arguments: ``call.get`` is the reference's argument or its default."""

    def __init__(self, kwargs: Kwargs, inputs: List[Any], after: Optional[str], target: str):
        self.kwargs, self.inputs, self.after, self.target = kwargs, inputs, after, target

    def get(self, name: str, default: Any = None) -> Any:
        return self.kwargs.get(name, default)

    @property
    def channels(self) -> int:
        return self.inputs[0].shape[1]

    @property
    def norm(self) -> Optional[Norm]:
        return _NORM if self.get("use_bn", False) else None

    @property
    def activation(self) -> str:
        return self.get("activation") or "none"


def _inputs(arrays: Arrays) -> List[Any]:
    """Inputs in their order, channels first; lists and dicts where they are nested."""
    inputs: Dict[int, Any] = {}
    for name, array in arrays.items():
        words = name.split("/")
        if words[0] != "in" or array.ndim < 2:
            continue  # A scalar stands for an argument that is not used.
        tensor = torch.from_numpy(array)
        tensor = tensor.movedim(-1, 1) if tensor.dim() > 2 else tensor
        if len(words) == 2:
            inputs[int(words[1])] = tensor
        else:
            inputs.setdefault(int(words[1]), {})[words[2]] = tensor
    return [
        list(value.values()) if isinstance(value, dict) and "0" in value else value
        for _, value in sorted(inputs.items())
    ]


def _named_outputs(result: Any) -> Dict[str, np.ndarray]:
    """``out``, or ``out/0`` and so on of a tuple, or ``out/name`` of a dict; channels last."""
    if isinstance(result, Tensor):
        return {"out": _channels_last(result)}
    items = result.items() if isinstance(result, dict) else enumerate(result)
    return {f"out/{name}": _channels_last(value) for name, value in items if value is not None}


def _channels_last(tensor: Tensor) -> np.ndarray:
    return (tensor.movedim(1, -1) if tensor.dim() > 2 else tensor).numpy()


def _load(module: nn.Module, variables: List[Dict[str, Any]]) -> None:
    state = module.state_dict()
    values = {}
    for row in variables:
        name, array = _parameter(row["key"], weight(row["key"], row["shape"]))
        if array.shape != tuple(state[name].shape) and array.ndim == 4:
            array = array.transpose(0, 3, 1, 2)  # Absolute position encodings.
        values[name] = torch.from_numpy(np.ascontiguousarray(array))
    missing, _ = module.load_state_dict(values, strict=False)
    missing = [name for name in missing if "num_batches" not in name]
    if missing:
        raise ValueError(f"parameters without a variable: {missing}")


def _parameter(key: str, array: np.ndarray) -> Tuple[str, np.ndarray]:
    path = key.split("/", 1)[1].replace("conv_block/", "")
    found = parameter_for_key("encoder/" + path)
    if found is None or (array.ndim == 4 and path.endswith("embeddings")):
        return path.replace("/", ".").lstrip("_").replace("._", "."), array
    return found.name[len("backbone.") :], found.to_layout(array)


def _statistics(module: Optional[nn.Module], variables: List[Dict[str, Any]]) -> Dict[str, Any]:
    assert module is not None
    state = module.state_dict()
    found = {}
    for row in variables:
        if row["kind"] in ("moving_mean", "moving_variance"):
            name, _ = _parameter(row["key"], np.zeros(row["shape"]))
            found[f"after_training/{row['key']}"] = state[name].numpy().reshape(row["shape"])
    return found


def _module(module: nn.Module) -> Port:
    return module, module


def _conv2d(call: _Call) -> Optional[Port]:
    use_sac = call.get("use_switchable_atrous_conv", False)
    if use_sac != call.get("use_global_context_in_sac", False):
        return None  # Ours has both or neither, as every network of the reference.
    return _module(
        layers.ConvNormAct(
            call.channels,
            call.get("output_channels"),
            call.get("kernel_size"),
            stride=call.get("strides", 1),
            atrous_rate=call.get("atrous_rate", 1),
            norm=call.norm,
            activation=call.activation,
            use_sac=use_sac,
            use_bias=call.get("use_bias", True),
        )
    )


def _depthwise(call: _Call) -> Port:
    return _module(
        layers.DepthwiseConvNormAct(
            call.channels,
            call.get("kernel_size"),
            stride=call.get("strides", 1),
            atrous_rate=call.get("atrous_rate", 1),
            norm=call.norm,
            activation=call.activation,
        )
    )


def _separable(call: _Call) -> Port:
    return _module(
        layers.SeparableConvNormAct(
            call.channels,
            call.get("output_channels"),
            call.get("kernel_size"),
            stride=call.get("strides", 1),
            atrous_rate=call.get("atrous_rate", 1),
            norm=call.norm,
            activation=call.activation,
        )
    )


def _stacked(call: _Call) -> Optional[Port]:
    expected = {
        "num_layers": 2,
        "conv_type": "depthwise_separable_conv",
        "kernel_size": 3,
        "use_bias": False,
        "use_bn": True,
        "activation": "relu",
    }
    if any(call.get(name) != value for name, value in expected.items()):
        return None  # Ours is the pair of DeepLab v3+.
    return _module(FusionConvs(call.channels, call.get("output_channels"), norm=_NORM))


def _switchable(call: _Call) -> Port:
    return _module(
        layers.SwitchableAtrousConv2d(
            call.channels,
            call.get("filters"),
            call.get("kernel_size"),
            stride=call.get("strides", 1),
            atrous_rate=call.get("dilation_rate", 1),
            use_bias=call.get("use_bias", True),
        )
    )


def _conv1d(call: _Call) -> Optional[Port]:
    if call.norm is None or call.get("use_bias", True) or call.get("kernel_size", 1) != 1:
        return None
    return _module(
        layers.SequenceConvNormAct(
            call.channels, call.get("output_channels"), norm=_NORM, activation=call.activation
        )
    )


def _aspp(call: _Call) -> Port:
    pool_size = re.fullmatch(r"set_pool_size\((.*)\)", call.after or "")
    return _module(
        layers.ASPP(
            call.channels,
            call.get("output_channels"),
            atrous_rates=call.get("atrous_rates"),
            use_only_1x1=call.get("aspp_use_only_1x1_proj_conv", False),
            pool_size=ast.literal_eval(pool_size.group(1)) if pool_size else None,
            norm=_NORM,
            activation=call.get("activation", "relu"),
        )
    )


def _stem(call: _Call) -> Port:
    return _module(
        layers.InceptionStem(
            norm=_NORM,
            in_channels=call.channels,
            width_multiplier=call.get("width_multiplier", 1.0),
            activation=call.get("activation", "relu"),
        )
    )


def _moat_block(call: _Call) -> Optional[Port]:
    """The reference's blocks have squeeze-and-excite or attention, as ours."""
    has_attention = call.target.endswith("MOATBlock")
    if call.get("expansion_rate", 4) != 4 or call.get("kernel_size", 3) != 3:
        return None
    has_positions = call.get("relative_position_embedding_type", "2d_multi_head") is not None
    window = call.get("window_size")
    spec = layers.MoatBlockSpec(
        channels=call.get("hidden_size"),
        has_attention=has_attention,
        stride=call.get("block_stride", 2 if has_attention else 1),
        pool_size=call.get("pool_size", 2),
        squeeze_ratio=call.get("se_ratio", 0.25) or 0.0,
        head_channels=call.get("head_size", 32),
        position_size=call.get("position_embedding_size", 7) if has_positions else None,
        window=tuple(window) if window else None,
    )
    return _module(layers.MoatBlock(call.channels, spec, norm=_NORM))


def _convnext_block(call: _Call) -> Port:
    return _module(
        layers.ConvNeXtBlock(call.channels, drop_path_keep_prob=call.get("drop_path_keep_prob"))
    )


def _squeeze_and_excite(call: _Call) -> Optional[Port]:
    if call.get("in_filters") != call.get("out_filters"):
        return None
    reduced = max(1, int(call.get("in_filters") * call.get("se_ratio")))
    return _module(
        layers.SqueezeAndExcite(
            call.channels,
            make_divisible(reduced, call.get("divisible_by", 1)),
            activation=call.get("activation", "relu"),
            gating_activation=call.get("gating_activation", "sigmoid"),
        )
    )


def _simplified_squeeze_and_excite(call: _Call) -> Optional[Port]:
    if call.get("squeeze_channels") != call.channels:
        return None
    return _module(layers.SimplifiedSqueezeAndExcite(call.channels))


def _inverted_bottleneck(call: _Call) -> Optional[Port]:
    fixed = {
        "se_inner_activation": "relu",
        "se_gating_activation": "sigmoid",
        "depthwise_activation": None,
        "use_depthwise": True,
    }
    if any(call.get(name, value) != value for name, value in fixed.items()):
        return None
    in_channels, divisor = call.get("in_filters"), call.get("divisible_by", 1)
    expands = call.get("expand_ratio") > 1
    expanded = make_divisible(in_channels * call.get("expand_ratio"), divisor)
    expanded = expanded if expands else in_channels
    squeezed = 0
    if call.get("se_ratio"):
        source = expanded if call.get("expand_se_in_filters", False) else in_channels
        squeezed = make_divisible(max(1, int(source * call.get("se_ratio"))), divisor)
    spec = layers.BlockSpec(
        kind="inverted",
        channels=(expanded if expands else 0, call.get("out_filters")),
        kernel_size=call.get("kernel_size", 3),
        stride=call.get("strides"),
        atrous_rate=call.get("atrous_rate", 1),
        activation=call.get("activation", "relu"),
        squeezed_channels=squeezed,
        has_shortcut=call.get("use_residual", True),
    )
    block = layers.GeneralBlock(in_channels, spec, norm=_NORM)
    return block, lambda features: tuple(reversed(block.hidden_and_output(features)))


def _axial_1d(call: _Call) -> Port:
    layer = layers.AxialAttention(
        call.channels,
        key_depth=call.get("total_key_depth", 512),
        value_depth=call.get("total_value_depth", 1024),
        spec=stages.attention_spec(call.kwargs),
        norm=_NORM,
    )
    return layer, lambda sequence: layer(sequence[..., None])[..., 0]


def _attention_2d(layer: Callable[..., nn.Module]) -> Callable[[_Call], Port]:
    def build(call: _Call) -> Port:
        return _module(
            layer(
                call.channels,
                width=call.get("filters", 512),
                spec=stages.attention_spec(call.kwargs),
                norm=_NORM,
                stride=call.get("strides", 1),
            )
        )

    return build


def _relative(call: _Call) -> Port:
    layer = layers.RelativePositionEncoding(call.get("depth"))
    lengths = (call.get("query_length"), call.get("key_length"))
    return layer, lambda *unused: layer(*lengths).movedim(-1, 1)


def _absolute(call: _Call) -> Port:
    kind = (call.get("positional_encoding_type") or "none").upper()
    if kind == "NONE":
        return None, lambda features: features
    size = (call.inputs[0].shape[-2], call.inputs[0].shape[-1])
    return _module(layers.AbsolutePositionEncoding(call.channels, kind=kind, size=size, norm=_NORM))


def _dual_path(call: _Call) -> Optional[Port]:
    spec = stages.dual_path_spec(call.kwargs)
    if spec is None:
        return None
    memory_channels = call.inputs[1].shape[1]
    return _module(
        layers.DualPathTransformerLayer(call.channels, memory_channels, spec, norm=_NORM)
    )


def _block(call: _Call) -> Port:
    block = layers.GeneralBlock(call.channels, stages.block_spec(call.kwargs), norm=_NORM)
    return block, lambda features, *unused: block(features)


def _group(call: _Call) -> Optional[Port]:
    memory_channels = call.inputs[1].shape[1] if len(call.inputs) > 1 else 0
    size = (call.inputs[0].shape[-2], call.inputs[0].shape[-1])
    stage = stages.build_stage(call.kwargs, call.channels, size, memory_channels, _NORM)
    return None if stage is None else _module(stage)


def _resized_fuse(call: _Call) -> Port:
    size = (call.get("height"), call.get("width"))
    # Strides for which "twice the resolution" is what the sizes say.
    shapes = [
        ShapeSpec(
            channels=feature.shape[1],
            stride=1 if all((a + 1) // 2 == b for a, b in zip(feature.shape[-2:], size)) else 2,
        )
        for feature in call.inputs[0]
    ]
    fuse = layers.ResizedFuse(
        shapes,
        channels=call.get("num_channels"),
        stride=2,
        norm=_NORM,
        activation=call.get("activation", "relu"),
    )
    return fuse, lambda features: fuse(features, size)


def _batch_norm(call: _Call) -> Port:
    name = "SyncBN" if "Sync" in call.target else "BN"
    norm = Norm(name, call.get("epsilon", 1e-3), 1.0 - call.get("momentum", 0.99))
    features = call.inputs[0]
    layer = norm.build_batch_norm(call.channels, is_biased=features.dim() != 4)
    return layer, lambda value: layer(value.flatten(2)[..., None]).view_as(value)


def _decoder(call: _Call) -> Port:
    shapes = {
        name: ShapeSpec(channels=feature.shape[1]) for name, feature in call.inputs[0].items()
    }
    return _module(
        Decoder(
            DecoderSpec(
                feature=call.get("high_level_feature_name"),
                low_level=tuple(
                    zip(
                        call.get("low_level_feature_names"),
                        call.get("low_level_channels_project"),
                    )
                ),
                channels=call.get("decoder_output_channels"),
                aspp_channels=call.get("aspp_output_channels"),
                atrous_rates=tuple(call.get("atrous_rates") or ()),
                aspp_only_1x1=call.get("aspp_use_only_1x1_proj_conv", False),
                conv_type=call.get("decoder_conv_type", "depthwise_separable_conv"),
            ),
            shapes,
            norm=_NORM,
            activation=call.get("activation", "relu"),
        )
    )


def _head(call: _Call) -> Port:
    head = PredictionHead(
        call.channels,
        channels=call.get("intermediate_channels"),
        out_channels=call.get("output_channels"),
        conv_type=call.get("conv_type", "depthwise_separable_conv"),
        norm=_NORM,
        activation=call.get("activation", "relu"),
    )
    return head, lambda features: {call.get("pred_key"): head(features)}


def _resize(call: _Call) -> Optional[Port]:
    size = tuple(call.get("target_size") or call.get("size"))
    if not call.get("align_corners", True):
        return None  # Nothing here is resized without aligned corners.
    if call.get("method", "bilinear") == "nearest":
        return None, lambda labels: torch.stack(
            [
                torch.from_numpy(resize_nearest(_channels_last(one[None])[0], size)).movedim(-1, 0)
                for one in labels
            ]
        )
    return None, lambda features: layers.resize_align_corners(features, size)


def _resize_offsets(call: _Call) -> Port:
    return None, lambda offsets: resize_map(offsets, "offset", call.get("target_size"))


_PORTS: Dict[str, Callable[[_Call], Union[Port, None]]] = {
    "MBConvBlock": _moat_block,
    "MOATBlock": _moat_block,
    "ConvNeXtBlock": _convnext_block,
    "AxialAttention": _axial_1d,
    "AxialAttention2D": _attention_2d(layers.AxialAttention2d),
    "GlobalAttention2D": _attention_2d(layers.GlobalAttention2d),
    "RelativePositionalEncoding": _relative,
    "AddAbsolutePositionalEncoding": _absolute,
    "DualPathTransformerLayer": _dual_path,
    "SwitchableAtrousConvolution": _switchable,
    "Conv2DSame": _conv2d,
    "DepthwiseConv2DSame": _depthwise,
    "SeparableConv2DSame": _separable,
    "StackedConv2DSame": _stacked,
    "Conv1D": _conv1d,
    "ASPP": _aspp,
    "InceptionSTEM": _stem,
    "SimplifiedSqueezeAndExcite": _simplified_squeeze_and_excite,
    "SqueezeAndExcite": _squeeze_and_excite,
    "InvertedBottleneckBlock": _inverted_bottleneck,
    "AxialBlock": _block,
    "BlockGroup": _group,
    "ResizedFuse": _resized_fuse,
    "DropPath": lambda call: _module(layers.DropPath(call.get("drop_path_keep_prob", 1.0))),
    "BatchNormalization": _batch_norm,
    "SyncBatchNormalization": _batch_norm,
    "PanopticDeepLabSingleDecoder": _decoder,
    "PanopticDeepLabSingleHead": _head,
    "get_activation": lambda call: _module(layers.Activation(call.get("identifier"))),
    "resize_align_corners": _resize,
    "resize_bilinear": _resize,
    "resize_and_rescale_offsets": _resize_offsets,
}
