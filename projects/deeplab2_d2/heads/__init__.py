"""From features to dicts of dense maps."""

from .decoder import Decoder, DecoderSpec, build_aspp, describe_decoder, shape_of
from .dense import DenseHeads, HeadSpec
from .prediction_head import PredictionHead

__all__ = [
    "Decoder",
    "DecoderSpec",
    "DenseHeads",
    "HeadSpec",
    "PredictionHead",
    "build_aspp",
    "describe_decoder",
    "shape_of",
]
