"""Pictures of labels and of predictions; RGB, uint8, made with NumPy alone."""

from collections import Counter
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from .colors import VOID_COLOR, hsv_to_rgb, vary_color

Array = Union[np.ndarray, Tensor]
# A map of segment ids, and Detectron2's ``segments_info``.
Panoptic = Tuple[Array, Sequence[Mapping[str, Any]]]


def to_numpy(array: Array) -> np.ndarray:
    """A tensor of any device, or an array, as an array."""
    if isinstance(array, torch.Tensor):
        array = array.detach()
        return (array.float() if array.dtype == torch.bfloat16 else array).cpu().numpy()
    return np.asarray(array)


def draw_image(image: Array) -> np.ndarray:
    """
    Args:
        image: (3, H, W), or (H, W, 3), any number type, RGB 0..255.

    Returns:
        (H, W, 3) uint8, a copy.

    Raises:
        ValueError: if neither the first nor the last dimension is 3.
    """
    image = to_numpy(image)
    if image.ndim == 3 and image.shape[-1] != 3 and image.shape[0] == 3:
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"image must be (3, H, W) or (H, W, 3), got {image.shape}")
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def draw_semantic(semantic: Array, colors: Array) -> np.ndarray:
    """
    Args:
        semantic: (H, W) integer class ids; those outside [0, C) are void, so black.
        colors: (C, 3) RGB.

    Returns:
        (H, W, 3) uint8.
    """
    semantic, colors = to_numpy(semantic), to_numpy(colors)
    table = np.vstack([colors, VOID_COLOR]).astype(np.uint8)
    is_class = (semantic >= 0) & (semantic < len(colors))
    return table[np.where(is_class, semantic, len(colors))]


def draw_panoptic(
    segment_map: Array, segments_info: Sequence[Mapping[str, Any]], colors: Array
) -> np.ndarray:
    """
    Args:
        segment_map: (H, W) integer segment ids, as in Detectron2's ``panoptic_seg``.
        segments_info: dicts with ``id`` and contiguous ``category_id``; ids that none has are void.
        colors: (C, 3) RGB by class. The first segment of a class has its color, the others
            variants of it.

    Returns:
        (H, W, 3) uint8.
    """
    segment_map = to_numpy(segment_map)
    present, inverse = np.unique(segment_map, return_inverse=True)
    table = np.tile(np.array(VOID_COLOR, np.uint8), (len(present), 1))
    position = {int(segment): i for i, segment in enumerate(present)}
    for segment_id, color in segment_colors(segments_info, colors).items():
        if segment_id in position:
            table[position[segment_id]] = color
    return table[inverse].reshape(*segment_map.shape, 3)


def segment_colors(
    segments_info: Sequence[Mapping[str, Any]], colors: Array
) -> Dict[int, np.ndarray]:
    """
    Colors of segments by their ids: of the first of a class its class's, of others variants of it.

    Args:
        segments_info, colors: see :func:`draw_panoptic`.
    """
    class_colors, chosen = to_numpy(colors), {}
    num_seen: Counter = Counter()
    for segment in segments_info:
        category = segment["category_id"]
        chosen[int(segment["id"])] = vary_color(class_colors[category], num_seen[category])
        num_seen[category] += 1
    return chosen


def draw_heatmap(heatmap: Array, *, maximum: Optional[float] = 1.0) -> np.ndarray:
    """
    From black through red and yellow to white.

    Args:
        heatmap: (H, W) or (1, H, W) float; values below 0 are black.
        maximum: value that is white; None = the largest of the map.

    Returns:
        (H, W, 3) uint8.
    """
    heatmap = np.nan_to_num(to_numpy(heatmap).astype(float))
    heatmap = heatmap[0] if heatmap.ndim == 3 else heatmap
    largest = float(np.max(heatmap, initial=0.0)) if maximum is None else maximum
    level = 3.0 * np.clip(heatmap / max(largest, 1e-12), 0.0, 1.0)
    ramps = np.clip(level[..., None] - np.arange(3.0), 0.0, 1.0)
    return np.rint(255.0 * ramps).astype(np.uint8)


def draw_depth(depth: Array, *, nearest: Optional[float] = None) -> np.ndarray:
    """
    The brighter the nearer: 1 / depth, from black through red and yellow to white.

    Args:
        depth: (H, W) or (1, H, W) in meters; black where it is 0, which is unknown.
        nearest: depth that is white, as all that is nearer; None = the smallest of the map. The
            frames of a video need one and the same.

    Returns:
        (H, W, 3) uint8.
    """
    depth = to_numpy(depth).astype(float)
    nearness = np.divide(1.0, depth, out=np.zeros_like(depth), where=depth > 0)
    return draw_heatmap(nearness, maximum=None if nearest is None else 1.0 / nearest)


def draw_offsets(
    offsets: Array, *, mask: Optional[Array] = None, maximum: Optional[float] = None
) -> np.ndarray:
    """
    Directions as hues, lengths as saturation: an instance shows the whole wheel around its center.

    Right is red, down yellow-green, left cyan, up violet, as in flow pictures; no offset is white.

    Args:
        offsets: (2, H, W) float ``(dy, dx)``.
        mask: (H, W) bool; black where False. None = everything is shown.
        maximum: length of full saturation, in the offsets' unit; None = the longest one shown.

    Returns:
        (H, W, 3) uint8.
    """
    offset_y, offset_x = np.nan_to_num(to_numpy(offsets).astype(float))
    shown = np.ones(offset_y.shape, bool) if mask is None else to_numpy(mask).astype(bool)
    length = np.hypot(offset_y, offset_x)
    longest = float(np.max(length[shown], initial=0.0)) if maximum is None else maximum
    hue = (np.arctan2(offset_y, offset_x) / (2 * np.pi)) % 1.0
    saturation = np.clip(length / max(longest, 1e-12), 0.0, 1.0)
    return hsv_to_rgb(hue, saturation, shown.astype(float))


def overlay(image: Array, picture: Array, *, opacity: float = 0.6) -> np.ndarray:
    """
    Lay a picture over an image; black pixels of the picture (void) show the image.

    Args:
        image: see :func:`draw_image`.
        picture: (H, W, 3) uint8 of the same size.
        opacity: of the picture, in [0, 1].

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: if the sizes differ.
    """
    base, picture = draw_image(image), to_numpy(picture)
    if base.shape != picture.shape:
        raise ValueError(f"picture must be {base.shape}, as the image, got {picture.shape}")
    mixed = np.rint((1.0 - opacity) * base + opacity * picture).astype(np.uint8)
    return np.where((picture == VOID_COLOR).all(-1, keepdims=True), base, mixed)


def hatch(picture: Array, mask: Array) -> np.ndarray:
    """
    Mark pixels by diagonal lines, white and black, which are seen on any ground.

    Args:
        picture: (H, W, 3) uint8, left as it is.
        mask: (H, W) bool.

    Returns:
        (H, W, 3) uint8; between the lines, and where the mask is False, that of ``picture``.
    """
    mask = to_numpy(mask).astype(bool)
    rows, columns = np.indices(mask.shape)
    # Of 8 pixels in a row 2 are white and, in the middle between two such lines, 2 black.
    phase = (rows + columns) % 8 // 2
    result = to_numpy(picture).copy()
    result[mask & (phase == 0)] = 255
    result[mask & (phase == 2)] = 0
    return result


def draw_boundaries(
    picture: Array, segment_map: Array, *, color: Sequence[int] = (255, 255, 255)
) -> np.ndarray:
    """
    Mark pixels whose right or lower neighbor belongs to another segment.

    Args:
        picture: (H, W, 3) uint8, left as it is.
        segment_map: (H, W) integer.
        color: RGB of the lines.

    Returns:
        (H, W, 3) uint8.
    """
    segment_map = to_numpy(segment_map)
    is_edge = np.zeros(segment_map.shape, bool)
    is_edge[:, :-1] |= segment_map[:, :-1] != segment_map[:, 1:]
    is_edge[:-1] |= segment_map[:-1] != segment_map[1:]
    return np.where(is_edge[..., None], np.array(color, np.uint8), to_numpy(picture))


def draw_points(
    picture: Array, points: Array, *, color: Sequence[int] = (0, 255, 255), radius: int = 3
) -> np.ndarray:
    """
    Draw crosses.

    Args:
        picture: (H, W, 3) uint8, left as it is.
        points: (K, 2) ``(y, x)`` in pixels of the picture; those outside are cut off.
        color: RGB.
        radius: length of an arm, in pixels.

    Returns:
        (H, W, 3) uint8.
    """
    result = to_numpy(picture).copy()
    height, width = result.shape[:2]
    for y, x in np.rint(to_numpy(points).astype(float)).astype(int):
        if 0 <= y < height:
            result[y, max(x - radius, 0) : max(x + radius + 1, 0)] = color
        if 0 <= x < width:
            result[max(y - radius, 0) : max(y + radius + 1, 0), x] = color
    return result


def draw_panoptic_overlay(image: Array, panoptic_seg: Panoptic, colors: Array) -> np.ndarray:
    """
    A panoptic segmentation over its image, with the outlines of segments.

    Args:
        image: (3, H, W) or (H, W, 3), RGB 0..255.
        panoptic_seg: Detectron2's pair: (H, W) segment ids and ``segments_info``.
        colors: (C, 3) RGB by contiguous class id.

    Returns:
        (H, W, 3) uint8.
    """
    segment_map, segments_info = panoptic_seg
    picture = overlay(image, draw_panoptic(segment_map, segments_info, colors))
    return draw_boundaries(picture, segment_map)
