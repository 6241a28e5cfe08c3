"""How the files of the generated dataset ``shapes_video`` are named and what is in them."""

import os
from typing import Any, Dict, List, Mapping, Sequence, Type, Union

import numpy as np
from PIL import Image

from ..structures import write_panoptic_png
from .panoptic_writer import PanopticWriter, Segment, instance_annotations, write_instances
from .shapes_video_scene import FOCAL_LENGTH
from .shapes_video_sequence import VideoFrame

_UNITS_PER_METER = 256
# Entries of a dataset dict that its neighbors have as well, with a prefix.
_NEIGHBOR_KEYS = ("file_name", "pan_seg_file_name", "segments_info")


class StepLayout:
    """
    Where the files of STEP are, with COCO panoptic annotations and depths beside them.

    Args:
        root: folder of the dataset.
        split: "train" or "val".
    """

    def __init__(self, root: str, split: str):
        self.image_root = os.path.join(root, "images", split)
        self.map_root = os.path.join(root, "panoptic_maps", split)
        self.depth_root = os.path.join(root, "depth", split)
        self.panoptic_root = os.path.join(root, "panoptic", split)
        self.panoptic_json = os.path.join(root, "annotations", f"panoptic_{split}.json")
        self.instances_json = os.path.join(root, "annotations", f"instances_{split}.json")

    def complete(self, dicts: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """The same dicts with depth, focal length and the frames before and after."""
        dicts = [
            {
                **d,
                "depth_file_name": os.path.join(
                    self.depth_root, os.path.relpath(d["file_name"], self.image_root)
                ),
                "focal_length": FOCAL_LENGTH,
            }
            for d in dicts
        ]
        return _link_frames(dicts)


class StepWriter:
    """
    Writes the files of :class:`StepLayout`.

    Args:
        root: folder of the dataset.
        split: "train" or "val".
        categories: of COCO panoptic format.
    """

    def __init__(self, root: str, split: str, categories: Sequence[Mapping[str, Any]]):
        self._layout = StepLayout(root, split)
        self._categories = categories
        self._panoptic = PanopticWriter(
            panoptic_root=self._layout.panoptic_root,
            panoptic_json=self._layout.panoptic_json,
            categories=categories,
        )
        self._images: List[Dict[str, Any]] = []
        self._instances: List[Dict[str, Any]] = []

    def add(self, sequence: str, frame: int, content: VideoFrame, image_id: int) -> None:
        """Write a frame; those of a sequence follow each other."""
        layout, name = self._layout, f"{sequence}/{frame:06d}.png"
        height, width = content.class_map.shape
        for root in (layout.image_root, layout.depth_root):
            os.makedirs(os.path.join(root, sequence), exist_ok=True)
        Image.fromarray(content.image).save(os.path.join(layout.image_root, name))
        _save_depth(os.path.join(layout.depth_root, name), content.depth)
        # Red is the class; green, the high byte of the number, stays 0.
        ids = content.class_map + (content.track_map.astype(np.int32) << 16)
        write_panoptic_png(os.path.join(layout.map_root, name), ids)

        segments = self._panoptic.add(name, (height, width), _segments(content), image_id)
        self._images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        self._instances += instance_annotations(
            [segment for segment in segments if segment.track_id],
            image_id=image_id,
            first_id=len(self._instances) + 1,
        )

    def close(self) -> None:
        """Write the annotations."""
        self._panoptic.close()
        write_instances(
            self._layout.instances_json, self._images, self._instances, self._categories
        )


class DvpsWriter:
    """
    Writes the files of depth-aware video panoptic segmentation: all of a split in one folder.

    Args:
        root: folder of the dataset.
        split: "train" or "val".
        categories: the layout has no place for them.
    """

    def __init__(self, root: str, split: str, categories: Sequence[Mapping[str, Any]]):
        self._folder = os.path.join(root, split)
        os.makedirs(self._folder)

    def add(self, sequence: str, frame: int, content: VideoFrame, image_id: int) -> None:
        """Write a frame; the layout has no place for the image's id."""
        stem = os.path.join(self._folder, f"{sequence}_{frame:06d}")
        Image.fromarray(content.image).save(f"{stem}_leftImg8bit.png")
        Image.fromarray(content.class_map).save(f"{stem}_gtFine_class.png")
        Image.fromarray(content.track_map).save(f"{stem}_gtFine_instance.png")
        _save_depth(f"{stem}_depth_{FOCAL_LENGTH}.png", content.depth)

    def close(self) -> None:
        """Nothing is left to write."""


WRITERS: Dict[str, Union[Type[StepWriter], Type[DvpsWriter]]] = {
    "step": StepWriter,
    "dvps": DvpsWriter,
}


def _save_depth(path: str, depth: np.ndarray) -> None:
    """``depth`` in meters, (H, W) float32, 0 unknown, below 256 m."""
    Image.fromarray(np.rint(depth * _UNITS_PER_METER).astype(np.uint16)).save(path)


def _segments(content: VideoFrame) -> List[Segment]:
    labels = content.class_map.astype(np.int32) * 256 + content.track_map
    return [
        Segment(labels == label, category_id=int(label) // 256, track_id=int(label) % 256)
        for label in np.unique(labels)
    ]


def _link_frames(dicts: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The same dicts, each with entries of the frame before and after it in its sequence."""
    linked = [dict(d) for d in dicts]
    for before, after in zip(linked, linked[1:]):
        if (before["sequence"], before["frame"] + 1) == (after["sequence"], after["frame"]):
            for key in _NEIGHBOR_KEYS:
                before[f"next_{key}"] = after[key]
                after[f"previous_{key}"] = before[key]
    return linked
