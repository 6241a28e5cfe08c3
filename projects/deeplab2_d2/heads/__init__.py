"""From features to typed predictions."""

from .decoder import PanopticDeepLabDecoder
from .panoptic_deeplab import PanopticDeepLabHead
from .prediction_head import PredictionHead
