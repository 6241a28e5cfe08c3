"""Metric accumulators, their ``DatasetEvaluator`` faces, and predictors without a network."""

from .background import BackgroundEvaluator
from .baselines import ConstantPredictor, GroundTruthPredictor
from .cityscapes import CityscapesMaskEvaluator, CityscapesSemanticEvaluator
from .classification import ImageClassificationEvaluator
from .depth import DepthMetrics
from .detections import (
    DETECTION_TYPES,
    PanopticDetectionEvaluator,
    build_detection_evaluator,
)
from .instances import PanopticInstanceEvaluator
from .label_readers import need_scores, reads_labels
from .panoptic import PanopticQualityEvaluator, compute_panoptic_quality
from .panoptic_accumulator import PanopticQuality
from .panoptic_ap import PanopticInstanceAP
from .panoptic_on_the_fly import OnTheFlyPanopticEvaluator
from .panoptic_statistics import PanopticStatistics, panoptic_quality, panoptic_statistics
from .semantic import SemanticEvaluator, summarize_confusion
from .submission import (
    CityscapesInstanceSubmission,
    CityscapesSemanticSubmission,
    PanopticSubmission,
)
from .tracking import SegmentationTrackingQuality
from .video import VideoEvaluator, build_video_evaluators
from .video_formats import VIDEO_FORMATS, VideoFormat
from .video_frames import FrameTruth, read_truth
from .video_panoptic import VideoPanopticQuality
from .video_scores import DEPTH_ERRORS, VideoScores
from .video_submission import VideoFilePredictor, VideoSubmission

__all__ = [
    "DETECTION_TYPES",
    "PanopticDetectionEvaluator",
    "build_detection_evaluator",
    "DEPTH_ERRORS",
    "BackgroundEvaluator",
    "CityscapesInstanceSubmission",
    "CityscapesMaskEvaluator",
    "CityscapesSemanticEvaluator",
    "CityscapesSemanticSubmission",
    "ConstantPredictor",
    "DepthMetrics",
    "FrameTruth",
    "GroundTruthPredictor",
    "ImageClassificationEvaluator",
    "PanopticInstanceAP",
    "PanopticInstanceEvaluator",
    "PanopticQuality",
    "OnTheFlyPanopticEvaluator",
    "PanopticQualityEvaluator",
    "PanopticStatistics",
    "panoptic_quality",
    "panoptic_statistics",
    "PanopticSubmission",
    "SegmentationTrackingQuality",
    "SemanticEvaluator",
    "VIDEO_FORMATS",
    "VideoEvaluator",
    "VideoFilePredictor",
    "VideoFormat",
    "VideoPanopticQuality",
    "VideoScores",
    "VideoSubmission",
    "build_video_evaluators",
    "compute_panoptic_quality",
    "need_scores",
    "read_truth",
    "reads_labels",
    "summarize_confusion",
]
