"""Pictures of images, labels and predictions, and sheets of them."""

from .colors import hsv_to_rgb, make_class_colors, vary_color
from .legends import Entry, class_legend, draw_legend, segment_legend
from .maps import draw_map
from .named_overlay import draw_named_overlay
from .pictures import (
    draw_boundaries,
    draw_depth,
    draw_heatmap,
    draw_image,
    draw_offsets,
    draw_panoptic,
    draw_panoptic_overlay,
    draw_points,
    draw_semantic,
    hatch,
    overlay,
)
from .ranking import draw_pair, draw_ranking_map
from .sheets import draw_text, sheet
from .tracks import draw_tracks, draw_tracks_overlay, track_colors

__all__ = [
    "Entry",
    "class_legend",
    "draw_boundaries",
    "draw_depth",
    "draw_heatmap",
    "draw_image",
    "draw_legend",
    "draw_map",
    "draw_named_overlay",
    "draw_offsets",
    "draw_pair",
    "draw_panoptic",
    "draw_panoptic_overlay",
    "draw_points",
    "draw_ranking_map",
    "draw_semantic",
    "draw_text",
    "draw_tracks",
    "draw_tracks_overlay",
    "hatch",
    "hsv_to_rgb",
    "make_class_colors",
    "overlay",
    "segment_legend",
    "sheet",
    "track_colors",
    "vary_color",
]
