"""From a name and options to a backbone, and from a config."""

from typing import Any, Tuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY

from ..layers import Norm, StageOptions
from .config_options import refuse_residual_options, row_from_config, stage_options_from_config
from .endpoints import EndpointBackbone
from .mobile_network import MOBILE_NETWORKS, MobileNetwork
from .residual_network import ResidualNetwork
from .stacked_decoder import StackedDecoderNetwork
from .table import RESIDUAL_NETWORKS, ResidualNetworkSpec

BACKBONE_NAMES: Tuple[str, ...] = tuple(RESIDUAL_NETWORKS) + tuple(MOBILE_NETWORKS)

# Fields of a row of the table that its stages have as options.
_ROW_OPTIONS = (
    "drop_path_beyond_stride",
    "axial_beyond_stride",
    "attention",
    "attention_expansion",
    "checkpointed_kinds",
)


def build_backbone_by_name(
    name: str,
    *,
    norm: Norm,
    in_channels: int = 3,
    output_stride: int = 32,
    width_multiplier: float = 1.0,
    **options: Any,
) -> EndpointBackbone:
    """
    A named backbone.

    Args:
        name: one of ``BACKBONE_NAMES``.
        norm: for all its layers.
        in_channels: of the images.
        output_stride: 8, 16 or 32 (any power of 2 from 4 on).
        width_multiplier: factor on the stages' channels.
        options: see :func:`build_residual_network`; MobileNetV3 has ``out_features`` and
            ``reduces_last_block`` only.

    Raises:
        ValueError: for a name that is not in the table.
    """
    options.update(
        norm=norm,
        in_channels=in_channels,
        output_stride=output_stride,
        width_multiplier=width_multiplier,
    )
    if name in MOBILE_NETWORKS:
        return MobileNetwork(specs=MOBILE_NETWORKS[name], **options)
    if name not in RESIDUAL_NETWORKS:
        raise ValueError(f"backbone name must be one of {BACKBONE_NAMES}, got {name!r}")
    return build_residual_network(RESIDUAL_NETWORKS[name], **options)


def build_residual_network(
    spec: ResidualNetworkSpec,
    *,
    norm: Norm,
    in_channels: int = 3,
    output_stride: int = 32,
    width_multiplier: float = 1.0,
    **options: Any,
) -> ResidualNetwork:
    """
    The backbone of a row of the table.

    Args:
        spec: the row.
        norm, in_channels, output_stride, width_multiplier: see :func:`build_backbone_by_name`.
        options: ``stem_width_multiplier`` and ``layer_multiplier`` of :class:`ResidualNetwork`;
            ``out_features``, names of endpoints (default: res2 .. res5, and the panoptic features
            of networks that have them); and fields of :class:`StageOptions`, of which some have
            their default from the row.
    """
    network = {
        key: options.pop(key)
        for key in ("stem_width_multiplier", "layer_multiplier", "out_features")
        if key in options
    }
    row = {key: getattr(spec, key) for key in _ROW_OPTIONS}
    layer = ResidualNetwork if spec.decoder is None else StackedDecoderNetwork
    return layer(
        spec=spec,
        options=StageOptions(output_stride=output_stride, **{**row, **options}),
        norm=norm,
        in_channels=in_channels,
        width_multiplier=width_multiplier,
        **network,
    )


@BACKBONE_REGISTRY.register()
def build_deeplab2_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> EndpointBackbone:
    """
    The backbone that ``MODEL.DEEPLAB2.BACKBONE`` describes.

    Raises:
        ValueError: for a name or options that no backbone has.
    """
    node = cfg.MODEL.DEEPLAB2.BACKBONE
    options = {
        "norm": Norm.from_config(cfg),
        "in_channels": input_shape.channels,
        "output_stride": node.OUTPUT_STRIDE,
        "width_multiplier": node.WIDTH_MULTIPLIER,
    }
    if node.NAME in MOBILE_NETWORKS:
        refuse_residual_options(node)
        return build_backbone_by_name(
            node.NAME, reduces_last_block=node.REDUCED_LAST_BLOCK, **options
        )
    if node.NAME not in RESIDUAL_NETWORKS:
        raise ValueError(
            f"MODEL.DEEPLAB2.BACKBONE.NAME must be one of {BACKBONE_NAMES}, got {node.NAME!r}"
        )
    return build_residual_network(
        row_from_config(node, RESIDUAL_NETWORKS[node.NAME]),
        stem_width_multiplier=node.STEM_WIDTH_MULTIPLIER,
        layer_multiplier=node.LAYER_MULTIPLIER,
        **options,
        **stage_options_from_config(cfg, node),
    )
