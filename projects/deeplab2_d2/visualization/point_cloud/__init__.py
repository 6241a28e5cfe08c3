"""Depth maps as clouds of colored points: a file for viewers, and a picture of them."""

from .camera import Camera, centered_camera, read_camera
from .cloud import color_segments, unproject, write_ply
from .view import View, draw_view

__all__ = [
    "Camera",
    "View",
    "centered_camera",
    "color_segments",
    "draw_view",
    "read_camera",
    "unproject",
    "write_ply",
]
