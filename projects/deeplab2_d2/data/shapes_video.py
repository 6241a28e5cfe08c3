"""
The generated dataset ``shapes_video``: things that move over a square in front of houses.

It needs no download, is small enough to train on two CPU cores in minutes, and has what models of
videos need: things of one class that cross and hide each other, that enter and leave, slow and
fast ones, their identity over time and the depth of every pixel but the sky. The name of a
sequence says how fast all that moves in it: "slow000", "fast001", ... See ``shapes_video_scene.py``
for what is drawn.

Folder tree under ``$DETECTRON2_DATASETS/shapes_video``, in the layout of STEP (arXiv:2102.11859)::

    shapes_video/
      info.json                                         options and statistics; written last
      images/{train,val}/<sequence>/<frame>.png
      panoptic_maps/{train,val}/<sequence>/<frame>.png  red: class, green and blue: the number
      depth/{train,val}/<sequence>/<frame>.png          16 bits, meters * 256, 0 unknown
      panoptic/images/{train,val}/<sequence>/<frame>.png  COCO panoptic format
      annotations/
        panoptic_{train,val}.json                       with a ``track_id`` in each segment
        instances_{train,val}.json

And in that of depth-aware video panoptic segmentation (ViP-DeepLab,
arXiv:2012.05258), as SemKITTI-DVPS has it::

    shapes_video_dvps/
      info.json
      video_sequence/{train,val}/
        <sequence>_<frame>_leftImg8bit.png      both of six digits; even sequences are slow
        <sequence>_<frame>_gtFine_class.png     8 bits
        <sequence>_<frame>_gtFine_instance.png  8 bits, the number
        <sequence>_<frame>_depth_160.0.png      as above; the focal length in pixels
"""

import os
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Set

import numpy as np

from .generated import write_once
from .registration import panoptic_metadata, register_panoptic_dataset
from .shapes_video_layouts import PANOPTIC_FOLDER, WRITERS, annotation_path
from .shapes_video_scene import CLASS_NAMES, THING_NAMES
from .shapes_video_sequence import NUM_FRAMES, PACES, SMALL_AREA, draw_sequence, pace_name

SPLITS = ("train", "val")
# By the name of a layout.
FOLDERS = {"step": "shapes_video", "dvps": "shapes_video_dvps"}
# Number of the first sequence of a split, so that a name is there once in the whole set.
_FIRST_NUMBERS = {"train": 0, "val": 500}
_VERSION = 1

_COLORS = {
    "box": [0, 110, 230],
    "ball": [220, 20, 60],
    "cone": [250, 170, 30],
    "ground": [128, 64, 128],
    "wall": [107, 142, 35],
    "sky": [70, 190, 200],
}


@dataclass(frozen=True)
class ShapesVideoOptions:
    """
    Size and seed of the dataset.

    Args:
        num_train, num_val: number of sequences of each split, half of them slow; 24 frames each.
        seed: equal options write equal files, byte by byte (with the same numpy and Pillow).
    """

    num_train: int = 40
    num_val: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.num_train <= _FIRST_NUMBERS["val"] and 1 <= self.num_val):
            raise ValueError(
                f"num_train must be in [1, {_FIRST_NUMBERS['val']}] and num_val at least 1, "
                f"got {self.num_train}, {self.num_val}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


def shapes_video_categories() -> List[Dict[str, Any]]:
    """
    The categories in COCO panoptic form, things first.

    Their ids are contiguous, for those of the maps of STEP and of DVPS are.
    """
    return [
        {"id": k, "name": name, "isthing": int(name in THING_NAMES), "color": _COLORS[name]}
        for k, name in enumerate(CLASS_NAMES)
    ]


def register_shapes_video(root: str) -> None:
    """
    Register ``shapes_video_train`` and ``shapes_video_val``, each if absent.

    Args:
        root: folder of all datasets.
    """
    folder = os.path.join(root, FOLDERS["step"])
    for split in SPLITS:
        register_panoptic_dataset(
            f"shapes_video_{split}",
            panoptic_metadata(shapes_video_categories()),
            image_root=folder,
            panoptic_root=os.path.join(folder, PANOPTIC_FOLDER),
            panoptic_json=annotation_path(folder, "panoptic", split),
            instances_json=annotation_path(folder, "instances", split),
        )


def prepare_shapes_video(
    folder: str, options: ShapesVideoOptions = ShapesVideoOptions(), layout: str = "step"
) -> Dict[str, Any]:
    """
    Write the dataset, or use the complete one that is there; see :func:`write_once`.

    Args:
        folder: where it goes, usually ``$DETECTRON2_DATASETS/shapes_video``.
        options: size and seed.
        layout: "step", which is the one that is registered, or "dvps".

    Returns:
        the content of ``info.json``: ``version``, ``options``, ``layout`` and per split the
        statistics ``num_frames``, ``num_tracks``, ``num_things`` (each frame counts),
        ``num_small`` (of these, below 100 visible pixels) and ``things_per_frame`` (fewest and
        most).

    Raises:
        ValueError: if ``folder`` exists and was made with other options, or holds anything else;
            or if there is no such layout.
    """
    if layout not in WRITERS:
        raise ValueError(f"layout must be one of {', '.join(WRITERS)}, got {layout!r}")
    return write_once(
        folder,
        "shapes_video",
        {"version": _VERSION, "options": asdict(options), "layout": layout},
        lambda partial: {split: _write_split(partial, split, options, layout) for split in SPLITS},
    )


def _write_split(
    folder: str, split: str, options: ShapesVideoOptions, layout: str
) -> Dict[str, Any]:
    """Write the sequences of one split; return its statistics."""
    writer = WRITERS[layout](folder, split, shapes_video_categories())
    num_sequences = options.num_train if split == "train" else options.num_val
    areas: List[int] = []
    per_frame: List[int] = []
    num_tracks = 0
    for k in range(num_sequences):
        # One generator a sequence, so that a longer set begins with the shorter one.
        rng = np.random.default_rng([options.seed, SPLITS.index(split), k])
        number = _FIRST_NUMBERS[split] + k
        tracks: Set[int] = set()
        for frame, content in enumerate(draw_sequence(PACES[pace_name(number)], rng)):
            writer.add(number, frame, content)
            labels = content.class_map.astype(int) * 256 + content.track_map
            found, counts = np.unique(labels[content.track_map > 0], return_counts=True)
            tracks.update(found.tolist())
            areas += counts.tolist()
            per_frame.append(len(found))
        num_tracks += len(tracks)
    writer.close()
    return {
        "num_frames": NUM_FRAMES * num_sequences,
        "num_tracks": num_tracks,
        "num_things": len(areas),
        "num_small": sum(area < SMALL_AREA for area in areas),
        "things_per_frame": [min(per_frame), max(per_frame)],
    }
