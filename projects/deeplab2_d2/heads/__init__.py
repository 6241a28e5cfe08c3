"""From features to typed predictions."""

from .decoder import PanopticDeepLabDecoder
from .max_deeplab import MaXDeepLabHead
from .panoptic_deeplab import PanopticDeepLabHead
from .prediction_head import PredictionHead
from .semantic_segmentation import (
    DeepLab2DeepLabV3Head,
    DeepLab2DeepLabV3PlusHead,
    FuseConvs,
    SemanticSegmentationHead,
)
