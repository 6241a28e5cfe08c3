"""What the heads hand to post-processing."""

from dataclasses import dataclass
from typing import Optional

from torch import Tensor


@dataclass(frozen=True)
class PanopticDeepLabPrediction:
    """
    Raw outputs of the Panoptic-DeepLab heads, at decoder resolution (stride 4 of the network
    input).

    Attributes:
        semantic_logits: (N, C, h, w) float.
        center_heatmap: (N, 1, h, w) float, the regressed heatmap itself (no sigmoid), about 0 to 1;
            None for a semantic-only model.
        center_offsets: (N, 2, h, w) float, ``(dy, dx)`` from each pixel to the center of its
            instance, in pixels of this (h, w) map; None for a semantic-only model.
    """

    semantic_logits: Tensor
    center_heatmap: Optional[Tensor] = None
    center_offsets: Optional[Tensor] = None
