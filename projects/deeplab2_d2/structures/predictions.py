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


@dataclass(frozen=True)
class MaXDeepLabPrediction:
    """
    Raw outputs of the MaX-DeepLab heads: K mask slots, their classes and the pixels' features.

    Attributes:
        mask_logits: (N, K, h, w) float, at stride 4 of the network input; a softmax over K says
            which slot a pixel belongs to.
        class_logits: (N, K, C + 1) float, the class of each slot: the things of the dataset, then
            its stuff, each in the order of their contiguous ids, then void (no object).
        pixel_features: (N, D, h, w) float, of unit length over D.
        semantic_logits: (N, S, h, w) float, of the auxiliary head; None without it.
    """

    mask_logits: Tensor
    class_logits: Tensor
    pixel_features: Tensor
    semantic_logits: Optional[Tensor] = None
