"""What ``build_model`` returns. Importing this registers every meta architecture."""

from .axial_deeplab import DeepLab2AxialDeepLab
from .model_metadata import check_classes
from .panoptic_deeplab import DeepLab2PanopticDeepLab
from .panoptic_deeplab_criterion import LossTerm, PanopticDeepLabCriterion
from .panoptic_deeplab_inference import PanopticDeepLabInference

__all__ = [
    "DeepLab2AxialDeepLab",
    "DeepLab2PanopticDeepLab",
    "LossTerm",
    "PanopticDeepLabCriterion",
    "PanopticDeepLabInference",
    "check_classes",
]
