"""Pictures of images, labels and predictions, and sheets of them."""

from .colors import hsv_to_rgb, make_class_colors, vary_color
from .maps import draw_map
from .pictures import (
    draw_boundaries,
    draw_heatmap,
    draw_image,
    draw_offsets,
    draw_panoptic,
    draw_panoptic_overlay,
    draw_points,
    draw_semantic,
    overlay,
)
from .sheets import draw_text, sheet

__all__ = [
    "draw_boundaries",
    "draw_heatmap",
    "draw_image",
    "draw_map",
    "draw_offsets",
    "draw_panoptic",
    "draw_panoptic_overlay",
    "draw_points",
    "draw_semantic",
    "draw_text",
    "hsv_to_rgb",
    "make_class_colors",
    "overlay",
    "sheet",
    "vary_color",
]
