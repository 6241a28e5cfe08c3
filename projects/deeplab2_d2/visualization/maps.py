"""A picture of a dense map, by its kind."""

from typing import Optional

import numpy as np

from ..structures import MapKind
from .colors import make_class_colors
from .pictures import Array, draw_depth, draw_heatmap, draw_offsets, draw_semantic, to_numpy


def draw_map(values: Array, kind: MapKind, *, mask: Optional[Array] = None) -> np.ndarray:
    """
    Args:
        values: (C, H, W) of one image.
        kind: of the map.
        mask: (H, W) bool, of offsets alone: black where False, see :func:`draw_offsets`.

    Returns:
        (H, W, 3) uint8. Of logits and of probabilities of several channels the largest one's color;
        heatmaps and single probabilities from black to white; offsets as hues; depth the brighter
        the nearer, what is nearest white; embeddings by their principal components.

    Raises:
        ValueError: for what is no map of pixels.
    """
    if kind == "slot_logits":
        raise ValueError("kind must be that of a map of pixels, got 'slot_logits'")
    maps = to_numpy(values)
    if kind == "offset":
        return draw_offsets(maps, mask=mask)
    if kind == "embedding":
        # Its room draws pages, which take longer to import.
        from .slots.coloring import feature_colors

        return np.rint(255.0 * feature_colors(values)).astype(np.uint8)
    if kind == "depth":
        return draw_depth(maps)
    if kind == "logits" or len(maps) > 1:
        return draw_semantic(maps.argmax(axis=0), make_class_colors(len(maps)))
    return draw_heatmap(maps)
