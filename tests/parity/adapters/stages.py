"""The reference's arguments of blocks, groups of blocks and attention, as our specs."""

from typing import Any, Dict, Mapping, Optional, Tuple

from torch import nn

from deeplab2_d2.layers import (
    AttentionSpec,
    BlockSpec,
    DualPathSpec,
    Norm,
    Stage,
    StageOptions,
    StageSpec,
    plan_blocks,
)

Kwargs = Mapping[str, Any]

# The reference's names of an attention's options, and ours.
_ATTENTION = {
    "key_expansion": "key_expansion",
    "value_expansion": "value_expansion",
    "num_heads": "num_heads",
    "use_content_similarity": "use_content",
    "use_query_rpe_similarity": "use_query_encoding",
    "use_key_rpe_similarity": "use_key_encoding",
    "retrieve_value_content": "retrieve_content",
    "retrieve_value_rpe": "retrieve_encoding",
    "self_attention_activation": "activation",
}
_DUAL_PATH = {
    "filters": "width",
    "num_heads": "num_heads",
    "bottleneck_expansion": "bottleneck_expansion",
    "key_expansion": "key_expansion",
    "value_expansion": "value_expansion",
    "feed_forward_network_channels": "feed_forward_channels",
    "use_memory_self_attention": "use_memory_self_attention",
    "use_pixel2memory_feedback_attention": "use_pixel_feedback",
    "transformer_activation": "attention_activation",
    "activation": "activation",
}


def attention_spec(kwargs: Kwargs) -> AttentionSpec:
    """Arguments of the reference's attention layers."""
    options = {ours: kwargs[name] for name, ours in _ATTENTION.items() if name in kwargs}
    if kwargs.get("double_global_attention"):
        options["num_global_layers"] = 2
    return AttentionSpec(**options)


def dual_path_spec(kwargs: Kwargs) -> Optional[DualPathSpec]:
    """Arguments of the reference's dual-path layer; None for one with k-means attention."""
    if kwargs.get("use_kmeans_cross_attention") or not kwargs.get(
        "use_memory2pixel_feedback_attention", True
    ):
        return None
    return DualPathSpec(
        **{ours: kwargs[name] for name, ours in _DUAL_PATH.items() if name in kwargs}
    )


def block_spec(kwargs: Kwargs) -> BlockSpec:
    """Arguments of the reference's ``AxialBlock``."""
    channels, rate = tuple(kwargs["filters_list"]), kwargs.get("atrous_rate", 1)
    attention = (kwargs.get("attention_type") or "none").lower()
    kind = "basic" if len(channels) == 2 else "bottleneck"
    return BlockSpec(
        kind=kind if attention == "none" else attention,
        channels=channels,
        kernel_size=kwargs.get("kernel_size", 3),
        stride=kwargs.get("strides", 1),
        atrous_rate=rate,
        second_atrous_rate=kwargs.get("basic_block_second_conv_atrous_rate") or rate,
        activation=kwargs.get("activation", "relu"),
        use_sac=kwargs.get("use_sac", False),
        use_squeeze_and_excite=kwargs.get("use_squeeze_and_excite", False),
        attention=attention_spec(kwargs.get("axial_layer_config") or {}),
    )


def build_stage(
    kwargs: Kwargs, in_channels: int, size: Tuple[int, int], memory_channels: int, norm: Norm
) -> Optional[nn.Module]:
    """The reference's ``BlockGroup`` for an input of a size; None for one without blocks."""
    if not kwargs.get("use_axial_block", True):
        return None
    input_stride, stride = kwargs["original_resnet_input_stride"], kwargs["original_resnet_stride"]
    output_stride = input_stride * stride
    stage = StageSpec(
        kind=_kind(kwargs),
        width=kwargs["filters"],
        num_blocks=kwargs["num_blocks"],
        input_stride=input_stride,
        stride=stride,
    )
    options = StageOptions(
        output_stride=kwargs.get("output_stride", 16),
        activation=kwargs.get("activation", "relu"),
        use_squeeze_and_excite=kwargs.get("use_squeeze_and_excite", False),
        sac_beyond_stride=kwargs.get("use_sac_beyond_stride", 0),
        axial_beyond_stride=kwargs.get("use_axial_beyond_stride", 16),
        global_beyond_stride=kwargs.get("use_global_beyond_stride", 0),
        attention=attention_spec(kwargs.get("axial_layer_config") or {}),
        attention_expansion=kwargs.get("attention_bottleneck_expansion", 2),
    )
    blocks = plan_blocks(stage, options)
    transformer = _transformer(kwargs, output_stride)
    encoding = (kwargs.get("positional_encoding_type") or "none").lower().replace("d", "D")
    if stride == 1 or output_stride != kwargs.get("use_global_beyond_stride", 0):
        encoding = "none"
    return Stage(
        in_channels,
        blocks,
        norm=norm,
        transformer=transformer,
        memory_channels=memory_channels,
        position_encoding=encoding,
        position_encoding_size=(
            (size[0] - 1) // blocks[0].stride + 1,
            (size[1] - 1) // blocks[0].stride + 1,
        ),
    )


def _kind(kwargs: Kwargs) -> str:
    """Of the convolutional blocks."""
    if kwargs.get("backbone_type", "resnet_beta") != "wider_resnet":
        return "bottleneck"
    output = kwargs["original_resnet_input_stride"] * kwargs["original_resnet_stride"]
    return "basic" if output < 32 else "wide_bottleneck"


def _transformer(kwargs: Kwargs, output_stride: int) -> Optional[DualPathSpec]:
    if not output_stride >= kwargs.get("use_transformer_beyond_stride", 32) > 0:
        return None
    options: Dict[str, Any] = dict(kwargs.get("dual_path_transformer_layer_config") or {})
    options["filters"] = int(128 * kwargs.get("transformer_expansion", 1))
    options.setdefault("activation", kwargs.get("activation", "relu"))
    return dual_path_spec(options)
