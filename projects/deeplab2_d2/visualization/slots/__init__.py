"""
Pictures of mask slots: what each predicts, where, and what it attends to.

The command is ``python -m deeplab2_d2.visualization.slots``; here are its pictures.
"""

from .coloring import draw_attention, draw_mask, feature_colors
from .matrix import draw_joint_distribution
from .picture_table import LabeledPicture, draw_picture_table, save_figure
from .report import ImageSlots, LayerAttention, SlotReport
from .statistics import SlotSegment, SlotStatistics, slot_segments

__all__ = [
    "ImageSlots",
    "LabeledPicture",
    "LayerAttention",
    "SlotReport",
    "SlotSegment",
    "SlotStatistics",
    "draw_attention",
    "draw_joint_distribution",
    "draw_mask",
    "draw_picture_table",
    "feature_colors",
    "save_figure",
    "slot_segments",
]
