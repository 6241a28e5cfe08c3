"""Backbone, decoders and heads: what all models are built of."""

from detectron2.config import LazyCall as L

from deeplab2_d2.backbones.build import build_backbone_by_name
from deeplab2_d2.engine.lazy_nodes import as_tuple, backbone_shapes, pairs_of
from deeplab2_d2.heads import HeadSpec, describe_decoder
from deeplab2_d2.layers import Norm
from deeplab2_d2.structures import identity_class_map

norm = L(Norm)(name="SyncBN", epsilon=1e-3, momentum=0.01)

# Keys of the family's config node may be added, with __ for a dot.
backbone = L(build_backbone_by_name)(
    name="resnet50", norm="${norm}", in_channels=3, output_stride=32, width_multiplier=1.0
)
# Of the features that the heads read.
shapes = L(backbone_shapes)(
    name="${model.backbone.name}",
    output_stride="${model.backbone.output_stride}",
    width_multiplier="${model.backbone.width_multiplier}",
)
class_map = L(identity_class_map)(num_classes="${dataset.num_classes}")


def decoder(channels, low_level, **options):
    """A decoder as data; `low_level` are features and the channels that they are projected to."""
    return L(describe_decoder)(
        input_shape="${shapes}",
        crop_size="${images.crop_size}",
        channels=channels,
        low_level=L(pairs_of)(**low_level),
        **options,
    )


def head(name, kind, out_channels, decoder_name, module, channels, **options):
    """A head as data."""
    return L(HeadSpec)(
        name=name,
        kind=kind,
        out_channels=out_channels,
        module=module,
        decoder=decoder_name,
        channels=channels,
        **options,
    )


def values(*items):
    """A list that stays a tuple."""
    return L(as_tuple)(values=list(items))
