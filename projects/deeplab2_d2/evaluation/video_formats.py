"""The files that servers of videos take, and the annotations of the same formats."""

from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np

Maps = Tuple[np.ndarray, ...]


@dataclass(frozen=True)
class VideoFormat:
    """
    How the panoptic map and the depth of a frame are written.

    Attributes:
        panoptic_files: paths of the PNGs of a map, with places for the sequence and the stem of the
            image's name.
        depth_file: path of the depth PNG, 16 bits, meters * 256; None if the server takes none.
        void_class: of pixels without a class.
        largest_number: of a track that can be written.
        encode: semantic and instance map, (H, W) integers, to the images of ``panoptic_files``.
        decode: those images, back to the two maps, int64.
    """

    panoptic_files: Tuple[str, ...]
    depth_file: Optional[str]
    void_class: int
    largest_number: int
    encode: Callable[[np.ndarray, np.ndarray], Maps]
    decode: Callable[[Sequence[np.ndarray]], Maps]


def _encode_three_channels(semantic: np.ndarray, instance: np.ndarray) -> Maps:
    colors = np.stack([semantic, instance // 256, instance % 256], axis=-1)
    return (colors.astype(np.uint8),)


def _decode_three_channels(images: Sequence[np.ndarray]) -> Maps:
    colors = images[0].astype(np.int64)
    return colors[..., 0], colors[..., 1] * 256 + colors[..., 2]


def _encode_two_channels(semantic: np.ndarray, instance: np.ndarray) -> Maps:
    colors = np.stack([semantic, instance, np.zeros_like(semantic)], axis=-1)
    return (colors.astype(np.uint8),)


def _decode_two_channels(images: Sequence[np.ndarray]) -> Maps:
    colors = images[0].astype(np.int64)
    return colors[..., 0], colors[..., 1]


def _encode_pair(semantic: np.ndarray, instance: np.ndarray) -> Maps:
    return semantic.astype(np.uint8), instance.astype(np.uint16)


def _decode_pair(images: Sequence[np.ndarray]) -> Maps:
    semantic, instance = (image.astype(np.int64) for image in images)
    return semantic, instance


# By what ``video_format`` of a dataset's metadata may be.
VIDEO_FORMATS: Dict[str, VideoFormat] = {
    # KITTI-STEP and MOTChallenge-STEP: red is the class, green and blue the number; DeepLab2's
    # three_channel_png.
    "step": VideoFormat(
        panoptic_files=("{sequence}/{stem}.png",),
        depth_file=None,
        void_class=255,
        largest_number=65535,
        encode=_encode_three_channels,
        decode=_decode_three_channels,
    ),
    # What ViP-DeepLab's cityscapes-dvps/eval_dvpq.py reads: two folders of flat names.
    "cityscapes_dvps": VideoFormat(
        panoptic_files=("panoptic/{stem}.png",),
        depth_file="depth/{stem}.png",
        void_class=19,
        largest_number=255,
        encode=_encode_two_channels,
        decode=_decode_two_channels,
    ),
    # What ViP-DeepLab's semkitti-dvps/eval_dvpq.py reads.
    "semkitti_dvps": VideoFormat(
        panoptic_files=("panoptic/{stem}_cat.png", "panoptic/{stem}_ins.png"),
        depth_file="depth/{stem}.png",
        void_class=19,
        largest_number=65535,
        encode=_encode_pair,
        decode=_decode_pair,
    ),
}


def find_video_format(name: str) -> VideoFormat:
    """
    Args:
        name: key of ``VIDEO_FORMATS``.

    Raises:
        ValueError: if it is none.
    """
    if name not in VIDEO_FORMATS:
        raise ValueError(f"video_format must be one of {', '.join(VIDEO_FORMATS)}, got {name!r}")
    return VIDEO_FORMATS[name]
