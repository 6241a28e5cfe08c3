"""The loss of depth."""

from dataclasses import dataclass
from typing import Dict, Mapping, Sequence, Tuple

import torch
from torch import Tensor

from ...losses import depth_loss
from ...postprocessing.maps import resize_map
from ...structures import Prediction
from ..target_batch import Padding


@dataclass(frozen=True)
class DepthCriterion:
    """
    The scale-invariant and relative error of depth, at the size of the training crop.

    Reference: ViP-DeepLab (arXiv:2012.05258), Sec. 3.3, as DeepLab2 computes it. An image of which
    no depth is known has no loss.

    Attributes:
        weight: factor on the loss.
    """

    weight: float

    @property
    def target_padding(self) -> Dict[str, Padding]:
        """Of padding nothing is known."""
        return {"depth": 0}

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Sequence[str] = (),
    ) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """
        Args:
            predictions: the one there is, with ``depth`` (N, 1, h, w) in meters, positive.
            targets: ``depth`` (N, H, W) in meters of the crop, 0 where unknown.
            sources: not used.

        Returns:
            ``loss_depth``, a float32 scalar; no metrics.
        """
        (prediction,) = predictions
        target, depth = targets["depth"], prediction["depth"]
        height, width = target.shape[-2:]
        with torch.autocast(depth.device.type, enabled=False):
            resized = resize_map(depth.float(), "depth", (height, width))[:, 0]
            return {"loss_depth": self.weight * depth_loss(resized, target).mean()}, {}
