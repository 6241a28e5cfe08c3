"""Pixel features and attention as colors."""

from typing import Optional

import numpy as np

from ..pictures import Array, draw_boundaries, draw_heatmap, draw_image, to_numpy

# Outline of a mask, which the colors of heat maps have not.
OUTLINE_COLOR = (0, 255, 255)
# Brightness that the image keeps where nothing is attended to.
_DIMMED = 0.5


def feature_colors(features: Array) -> np.ndarray:
    """
    Features as colors, so that pixels with equal features have equal colors.

    Reference: MaX-DeepLab (arXiv:2012.00759), Fig. 5. Three features in [-1, 1] are red, green and
    blue: ``(x + 1) / 2``. Any other number is projected onto the first three principal components
    over these pixels (each with the sign that makes its largest entry positive, the first of equal
    ones) and each component stretched from its least to its largest value; one that does not vary,
    and one that there is not, is 0.

    Args:
        features: (D, h, w) float.

    Returns:
        (h, w, 3) float64 in [0, 1], RGB.
    """
    features = to_numpy(features).astype(np.float64)
    depth, height, width = features.shape
    if depth == 3:
        return np.clip((features.transpose(1, 2, 0) + 1.0) / 2.0, 0.0, 1.0)
    values = features.reshape(depth, -1).T
    values = values - values.mean(axis=0)
    # Ascending eigenvalues of the covariance; its scale does not matter.
    eigenvalues, vectors = np.linalg.eigh(values.T @ values)
    colors = np.zeros((height * width, 3))
    # Below this, a component is the rounding of features that do not vary along it.
    negligible = 1e-10 * max(float(eigenvalues[-1]), 1e-30)
    for channel in range(min(3, depth)):
        axis = vectors[:, -1 - channel]
        axis = axis * np.sign(axis[np.argmax(np.abs(axis))])
        component = values @ axis
        if eigenvalues[-1 - channel] > negligible:
            component = component - component.min()
            colors[:, channel] = component / component.max()
    return colors.reshape(height, width, 3)


def draw_attention(image: Array, weights: Array, mask: Optional[Array] = None) -> np.ndarray:
    """
    Attention over a gray, dimmed image: the more weight, the hotter and the more opaque.

    Args:
        image: see :func:`draw_image`.
        weights: (H, W) float, at least 0; the largest is white, 0 shows the image alone.
        mask: (H, W) bool; its outline is drawn.

    Returns:
        (H, W, 3) uint8.
    """
    weights = to_numpy(weights).astype(float)
    level = (weights / max(float(weights.max(initial=0.0)), 1e-12))[..., None]
    gray = draw_image(image).mean(axis=-1, keepdims=True) * _DIMMED
    mixed = (1.0 - level) * gray + level * draw_heatmap(level[..., 0])
    return outline(np.rint(mixed).astype(np.uint8), mask)


def draw_mask(image: Array, mask: Array) -> np.ndarray:
    """
    The image within a mask, and gray and dimmed around it.

    Args:
        image: see :func:`draw_image`.
        mask: (H, W) bool.

    Returns:
        (H, W, 3) uint8.
    """
    picture, mask = draw_image(image), to_numpy(mask).astype(bool)
    gray = np.rint(picture.mean(axis=-1, keepdims=True) * _DIMMED).astype(np.uint8)
    return outline(np.where(mask[..., None], picture, gray), mask)


def outline(picture: np.ndarray, mask: Optional[Array]) -> np.ndarray:
    """The picture with the border of a mask drawn; None for no mask."""
    if mask is None:
        return picture
    return draw_boundaries(picture, to_numpy(mask).astype(np.int32), color=OUTLINE_COLOR)
