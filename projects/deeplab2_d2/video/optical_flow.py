"""Dense optical flow between two frames, and label maps moved by it."""

from typing import NamedTuple, Tuple

import numpy as np
import torch
from torch import Tensor

from ..postprocessing.maps import resize_map

# Of the forward-backward check: share of the squared lengths, and square pixels.
_RELATIVE, _ABSOLUTE = 0.01, 0.5


class Flow(NamedTuple):
    """
    Where the pixels of a frame are in the next one.

    Attributes:
        offsets: (2, H, W) float32 ``(dy, dx)``, in pixels of these maps.
        is_occluded: (H, W) bool, pixels that cannot be seen in the next frame.
    """

    offsets: Tensor
    is_occluded: Tensor

    def resize(self, size: Tuple[int, int]) -> "Flow":
        """The flow in maps of (height, width), corners aligned; offsets change as the map does."""
        if self.is_occluded.shape == tuple(size):
            return self
        occluded = resize_map(self.is_occluded[None, None].float(), "probability", size)
        return Flow(resize_map(self.offsets[None], "offset", size)[0], occluded[0, 0] >= 0.5)


def estimate_flow(first: np.ndarray, second: np.ndarray) -> Flow:
    """
    The flow from one frame to the next, by OpenCV's DIS (dense inverse search).

    A pixel is occluded where the flow back from where it went does not return, by the check and the
    constants of UnFlow (arXiv:1711.07837), or where it leaves the frame.

    Args:
        first, second: (H, W) uint8, gray.

    Raises:
        ValueError: if the sizes differ.
    """
    import cv2

    if first.shape != second.shape:
        raise ValueError(f"frames must be of one size, got {first.shape} and {second.shape}")
    first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward = search.calc(first, second, np.zeros((*first.shape, 2), np.float32))
    backward = search.calc(second, first, np.zeros((*first.shape, 2), np.float32))
    x, y = forward[..., 0] + np.arange(first.shape[1]), forward[..., 1]
    y = y + np.arange(first.shape[0])[:, None]
    back = cv2.remap(backward, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    error = np.square(forward + back).sum(axis=2)
    squares = np.square(forward).sum(axis=2) + np.square(back).sum(axis=2)
    is_occluded = error >= _RELATIVE * squares + _ABSOLUTE
    is_occluded |= (x < 0) | (x > first.shape[1] - 1) | (y < 0) | (y > first.shape[0] - 1)
    offsets = np.ascontiguousarray(forward[..., ::-1].transpose(2, 0, 1))
    return Flow(torch.from_numpy(offsets), torch.from_numpy(is_occluded))


def warp_back(labels: Tensor, flow: Flow, *, outside: int) -> Tensor:
    """
    A frame's labels where the same things are in the frame before.

    Args:
        labels: (H, W) integer, of a frame.
        flow: from the frame before to it.
        outside: label of what is occluded in it, or comes from outside.

    Returns:
        (H, W) of the dtype of ``labels``: at each pixel the label nearest to where it went.

    Raises:
        ValueError: if the flow is of another size.
    """
    if flow.offsets.shape != (2, *labels.shape):
        raise ValueError(f"flow must be {(2, *labels.shape)}, got {tuple(flow.offsets.shape)}")
    height, width = labels.shape
    offsets = flow.offsets.to(labels.device)
    y = (offsets[0] + torch.arange(height, device=labels.device)[:, None]).round().long()
    x = (offsets[1] + torch.arange(width, device=labels.device)).round().long()
    is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    warped = labels.reshape(-1)[index]
    return warped.masked_fill(~is_inside | flow.is_occluded.to(labels.device), outside)
