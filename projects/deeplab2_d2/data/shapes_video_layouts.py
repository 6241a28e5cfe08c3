"""How the files of the generated dataset ``shapes_video`` are named and what is in them."""

import os
from typing import Any, Dict, List, Literal, Mapping, Sequence, Type, Union

import numpy as np
from PIL import Image

from ..structures import UNITS_PER_METER, write_panoptic_png
from .panoptic_writer import PanopticWriter, Segment, instance_annotations, write_instances
from .sequences import image_id_of_frame
from .shapes_video_scene import FOCAL_LENGTH
from .shapes_video_sequence import VideoFrame, pace_name
from .track_segments import track_segments

PANOPTIC_FOLDER = "panoptic"


def annotation_path(root: str, kind: Literal["panoptic", "instances"], split: str) -> str:
    """Path of a split's JSON in COCO panoptic or instance format."""
    return os.path.join(root, "annotations", f"{kind}_{split}.json")


class StepWriter:
    """
    Writes images and maps of STEP, with COCO panoptic annotations and depths beside them.

    Args:
        root: folder of the dataset.
        split: "train" or "val".
        categories: of COCO panoptic format; their ids are the classes of a frame's map.
    """

    def __init__(self, root: str, split: str, categories: Sequence[Mapping[str, Any]]):
        self._root, self._split, self._categories = root, split, categories
        self._thing_ids = {c["id"] for c in categories if c["isthing"]}
        self._panoptic = PanopticWriter(
            panoptic_root=os.path.join(root, PANOPTIC_FOLDER),
            panoptic_json=annotation_path(root, "panoptic", split),
            categories=categories,
        )
        self._images: List[Dict[str, Any]] = []
        self._instances: List[Dict[str, Any]] = []

    def add(self, number: int, frame: int, content: VideoFrame) -> None:
        """Write a frame of the sequence of this number."""
        sequence = f"{pace_name(number)}{number:03d}"
        image_id = image_id_of_frame(number, frame)
        image_file, map_file, depth_file = (
            os.path.join(folder, self._split, sequence, f"{frame:06d}.png")
            for folder in ("images", "panoptic_maps", "depth")
        )
        _save(os.path.join(self._root, image_file), content.image)
        _save(os.path.join(self._root, depth_file), _depth_units(content.depth))
        # Red is the class; green, the high byte of the number, stays 0.
        ids = content.class_map + (content.track_map.astype(np.int32) << 16)
        write_panoptic_png(os.path.join(self._root, map_file), ids)

        height, width = content.class_map.shape
        segments = self._panoptic.add(
            image_file,
            (height, width),
            self._segments(content, map_file),
            image_id,
            entries={
                "sequence": sequence,
                "frame": frame,
                "depth_file_name": depth_file,
                "focal_length": FOCAL_LENGTH,
            },
        )
        self._images.append(
            {"id": image_id, "file_name": image_file, "height": height, "width": width}
        )
        self._instances += instance_annotations(
            [segment for segment in segments if segment.category_id in self._thing_ids],
            image_id=image_id,
            first_id=len(self._instances) + 1,
        )

    def _segments(self, content: VideoFrame, source: str) -> List[Segment]:
        num_classes = len(self._categories)
        return track_segments(
            content.class_map,
            content.track_map,
            num_classes=num_classes,
            thing_ids=self._thing_ids,
            void=num_classes,
            source=source,
        )

    def close(self) -> None:
        """Write the annotations."""
        self._panoptic.close()
        write_instances(
            annotation_path(self._root, "instances", self._split),
            self._images,
            self._instances,
            self._categories,
        )


class DvpsWriter:
    """
    Writes the files of SemKITTI-DVPS: all of a split in one folder.

    Args:
        root: folder of the dataset.
        split: "train" or "val".
        categories: the layout has no place for them.
    """

    def __init__(self, root: str, split: str, categories: Sequence[Mapping[str, Any]]):
        self._folder = os.path.join(root, "video_sequence", split)

    def add(self, number: int, frame: int, content: VideoFrame) -> None:
        """Write a frame of the sequence of this number."""
        stem = os.path.join(self._folder, f"{number:06d}_{frame:06d}")
        _save(f"{stem}_leftImg8bit.png", content.image)
        _save(f"{stem}_gtFine_class.png", content.class_map)
        _save(f"{stem}_gtFine_instance.png", content.track_map)
        _save(f"{stem}_depth_{FOCAL_LENGTH}.png", _depth_units(content.depth))

    def close(self) -> None:
        """Nothing is left to write."""


WRITERS: Dict[str, Union[Type[StepWriter], Type[DvpsWriter]]] = {
    "step": StepWriter,
    "dvps": DvpsWriter,
}


def _save(path: str, values: np.ndarray) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(values).save(path)


def _depth_units(depth: np.ndarray) -> np.ndarray:
    """uint16 of meters below 256; 0, unknown, stays 0."""
    return np.rint(depth * UNITS_PER_METER).astype(np.uint16)
