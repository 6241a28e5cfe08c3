"""From features to dicts of dense maps."""

from .decoder import Decoder, DecoderSpec, FusionConvs, build_aspp, describe_decoder, shape_of
from .dense import DenseHeads, HeadSpec
from .prediction_head import PredictionHead

__all__ = [
    "Decoder",
    "DecoderSpec",
    "DenseHeads",
    "FusionConvs",
    "HeadSpec",
    "PredictionHead",
    "build_aspp",
    "describe_decoder",
    "shape_of",
]
