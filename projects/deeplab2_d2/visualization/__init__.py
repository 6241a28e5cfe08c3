"""Pictures of images, labels and predictions, and sheets of them."""

from .colors import hsv_to_rgb, make_class_colors, vary_color
from .panoptic_deeplab import ROW_TITLES, draw_panoptic_overlay, panoptic_deeplab_row
from .pictures import (
    draw_boundaries,
    draw_heatmap,
    draw_image,
    draw_offsets,
    draw_panoptic,
    draw_points,
    draw_semantic,
    overlay,
)
from .sheets import draw_text, sheet
from .training_pictures import training_pictures

__all__ = [
    "ROW_TITLES",
    "draw_boundaries",
    "draw_heatmap",
    "draw_image",
    "draw_offsets",
    "draw_panoptic",
    "draw_panoptic_overlay",
    "draw_points",
    "draw_semantic",
    "draw_text",
    "hsv_to_rgb",
    "make_class_colors",
    "overlay",
    "panoptic_deeplab_row",
    "sheet",
    "training_pictures",
    "vary_color",
]
