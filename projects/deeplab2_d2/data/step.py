"""
KITTI-STEP and MOTChallenge-STEP in COCO panoptic format, frame by frame.

The releases have a map for each frame of a video: red is the class, green and blue the number of
the instance. :func:`prepare_step` makes the annotations of it. Reference: STEP (arXiv:2102.11859).
"""

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

from ..structures import open_image, read_panoptic_png, write_json
from .panoptic_writer import PanopticWriter, Segment
from .track_segments import track_segments

PANOPTIC_FOLDER = "panoptic"
SPLITS = ("train", "val", "trainval")
_VOID = 255
# An image's id is this number times that of its video, and the frame's.
_FRAMES_OF_SEQUENCE = 1000000
_MAP_FOLDERS = ("panoptic_maps/train/{:04d}", "panoptic_maps/val/{:04d}")
_IMAGE_FOLDERS = ("images/train/{:04d}", "images/val/{:04d}")
_IMAGE_EXTENSIONS = (".png", ".jpg")


@dataclass(frozen=True)
class StepRelease:
    """
    What one of the two releases holds.

    Args:
        classes: in the order of their ids; the names are Cityscapes'.
        things: the classes with instances.
        sequences: numbers of the videos of "train" and "val".
        image_folders: where the images of a video may be, with a place for its number: in the
            layout of DeepLab2, or as the archive unpacks.
    """

    classes: Tuple[str, ...]
    things: Tuple[str, ...]
    sequences: Mapping[str, Tuple[int, ...]]
    image_folders: Tuple[str, ...]


# By the name of the folder, with which the registered names begin as well.
STEP_RELEASES = {
    "kitti_step": StepRelease(
        classes=tuple(category["name"] for category in CITYSCAPES_CATEGORIES),
        things=("person", "car"),
        sequences={
            "train": (0, 1, 3, 4, 5, 9, 11, 12, 15, 17, 19, 20),
            "val": (2, 6, 7, 8, 10, 13, 14, 16, 18),
        },
        image_folders=(*_IMAGE_FOLDERS, "training/image_02/{:04d}"),
    ),
    "motchallenge_step": StepRelease(
        classes=("sidewalk", "building", "vegetation", "sky", "person", "rider", "bicycle"),
        things=("person",),
        sequences={"train": (9,), "val": (2,)},
        image_folders=(*_IMAGE_FOLDERS, "MOTS/train/MOTS20-{:02d}/img1"),
    ),
}


def step_categories(name: str) -> List[Dict[str, Any]]:
    """The categories of ``STEP_RELEASES[name]`` in COCO panoptic form, colored as Cityscapes."""
    release = STEP_RELEASES[name]
    colors = {category["name"]: category["color"] for category in CITYSCAPES_CATEGORIES}
    return [
        {"id": k, "name": c, "isthing": int(c in release.things), "color": list(colors[c])}
        for k, c in enumerate(release.classes)
    ]


def panoptic_json(root: str, name: str, split: str) -> str:
    """Path of a split's annotation in the release's folder ``root``."""
    return os.path.join(root, f"{name}_panoptic_{split}.json")


def prepare_step(root: str, name: str) -> List[str]:
    """
    Write ``panoptic/`` and ``<name>_panoptic_{train,val,trainval}.json``.

    The videos decide on the split, wherever they are. A thing without an instance's number is a
    crowd; instances of other classes become one segment. An image's id is
    1000000 * video + frame; the number of an instance is its ``track_id``.

    Args:
        root: folder of the release.
        name: key of ``STEP_RELEASES``.

    Returns:
        the paths of the JSONs.

    Raises:
        FileNotFoundError: if the release is not complete.
        ValueError: if a map is not of its image's size, or has a class that is not there.
    """
    release = STEP_RELEASES[name]
    categories = step_categories(name)
    written = []
    for split, sequences in release.sequences.items():
        writer = PanopticWriter(
            panoptic_root=os.path.join(root, PANOPTIC_FOLDER),
            panoptic_json=panoptic_json(root, name, split),
            categories=categories,
        )
        for sequence in sequences:
            _add_sequence(writer, root, release, sequence)
        written.append(writer.close())
    trainval = panoptic_json(root, name, "trainval")
    _merge(written, trainval)
    return [*written, trainval]


def _add_sequence(writer: PanopticWriter, root: str, release: StepRelease, sequence: int) -> None:
    images = _find_folder(root, release.image_folders, sequence)
    maps = _find_folder(root, _MAP_FOLDERS, sequence)
    names = sorted(os.listdir(os.path.join(root, images)))
    frames = [n for n in names if os.path.splitext(n)[1] in _IMAGE_EXTENSIONS]
    if not frames:
        raise FileNotFoundError(f"{os.path.join(root, images)} has no image")
    for frame in frames:
        stem = os.path.splitext(frame)[0]
        map_file = os.path.join(root, maps, f"{stem}.png")
        with open_image(os.path.join(root, images, frame)) as image:
            size = image.height, image.width
        colors = read_panoptic_png(map_file)
        if colors.shape != size:
            raise ValueError(f"{map_file} has size {colors.shape}, but its image has {size}")
        writer.add(
            f"{images}/{frame}",
            size,
            _segments(colors, release, map_file),
            image_id=_FRAMES_OF_SEQUENCE * sequence + int(stem),
            entries={"sequence": f"{sequence:04d}", "frame": int(stem)},
        )


def _find_folder(root: str, patterns: Sequence[str], sequence: int) -> str:
    """The first of the folders that exists, relative to ``root``."""
    folders = [pattern.format(sequence) for pattern in patterns]
    for folder in folders:
        if os.path.isdir(os.path.join(root, folder)):
            return folder
    raise FileNotFoundError(f"{root} has none of {', '.join(folders)}; is the release complete?")


def _segments(colors: np.ndarray, release: StepRelease, map_file: str) -> List[Segment]:
    """
    Segments of a map.

    Args:
        colors: (H, W) int32, red + 256 * green + 256^2 * blue.
        release: with the classes.
        map_file: named in errors.
    """
    return track_segments(
        colors & 255,
        (colors >> 8 & 255) * 256 + (colors >> 16),
        num_classes=len(release.classes),
        thing_ids={release.classes.index(thing) for thing in release.things},
        void=_VOID,
        source=map_file,
    )


def _merge(parts: Sequence[str], target: str) -> None:
    """Write the annotation of all images of ``parts``, which have the same categories."""
    contents = []
    for part in parts:
        with open(part) as f:
            contents.append(json.load(f))
    lists = {key: [x for c in contents for x in c[key]] for key in ("images", "annotations")}
    write_json(target, {**contents[0], **lists})
