"""Metric accumulators, their ``DatasetEvaluator`` faces, and predictors without a network."""

from .baselines import ConstantPredictor, GroundTruthPredictor
from .cityscapes import CityscapesMaskEvaluator, CityscapesSemanticEvaluator
from .instances import PanopticInstanceEvaluator
from .panoptic import PanopticQualityEvaluator, compute_panoptic_quality
from .semantic import SemanticEvaluator, summarize_confusion

__all__ = [
    "CityscapesMaskEvaluator",
    "CityscapesSemanticEvaluator",
    "ConstantPredictor",
    "GroundTruthPredictor",
    "PanopticInstanceEvaluator",
    "PanopticQualityEvaluator",
    "SemanticEvaluator",
    "compute_panoptic_quality",
    "summarize_confusion",
]
