"""What ``build_model`` returns. Importing this registers every meta architecture."""

from .axial_deeplab import DeepLab2AxialDeepLab
from .max_deeplab import DeepLab2MaXDeepLab
from .max_deeplab_criterion import MaXDeepLabCriterion
from .max_deeplab_inference import MaXDeepLabInference
from .model_metadata import check_classes
from .panoptic_deeplab import DeepLab2PanopticDeepLab
from .panoptic_deeplab_criterion import LossTerm, PanopticDeepLabCriterion
from .panoptic_deeplab_inference import PanopticDeepLabInference
from .segmenter import PanopticSegmenter

__all__ = [
    "DeepLab2AxialDeepLab",
    "DeepLab2MaXDeepLab",
    "DeepLab2PanopticDeepLab",
    "LossTerm",
    "MaXDeepLabCriterion",
    "MaXDeepLabInference",
    "PanopticDeepLabCriterion",
    "PanopticDeepLabInference",
    "PanopticSegmenter",
    "check_classes",
]
