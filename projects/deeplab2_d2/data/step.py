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
from .sequences import image_id_of_frame, join_frames
from .track_segments import track_segments

PANOPTIC_FOLDER = "panoptic"
SPLITS = ("train", "val", "trainval")
_VOID = 255
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
        test_sequences, test_folders: likewise, of the videos without labels.
    """

    classes: Tuple[str, ...]
    things: Tuple[str, ...]
    sequences: Mapping[str, Tuple[int, ...]]
    image_folders: Tuple[str, ...]
    test_sequences: Tuple[int, ...]
    test_folders: Tuple[str, ...]


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
        test_sequences=tuple(range(29)),
        test_folders=("images/test/{:04d}", "testing/image_02/{:04d}"),
    ),
    "motchallenge_step": StepRelease(
        classes=("sidewalk", "building", "vegetation", "sky", "person", "rider", "bicycle"),
        things=("person",),
        sequences={"train": (9,), "val": (2,)},
        image_folders=(*_IMAGE_FOLDERS, "MOTS/train/MOTS20-{:02d}/img1"),
        test_sequences=(1, 7),
        test_folders=("images/test/{:04d}", "MOTS/test/MOTS20-{:02d}/img1"),
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


def load_step_images(root: str, name: str) -> List[Dict[str, Any]]:
    """
    Dataset dicts of the videos without labels.

    Args:
        root: folder of the release.
        name: key of ``STEP_RELEASES``.

    Returns:
        dicts with ``file_name``, ``image_id``, ``sequence``, ``frame`` and their neighbors.

    Raises:
        FileNotFoundError: if a video or its images are missing.
    """
    release = STEP_RELEASES[name]
    frames: List[Dict[str, Any]] = []
    for sequence in release.test_sequences:
        folder = _find_folder(root, release.test_folders, sequence)
        for frame in _list_images(os.path.join(root, folder)):
            place, image_id = _place(sequence, frame)
            file_name = os.path.join(root, folder, frame)
            frames.append({"file_name": file_name, "image_id": image_id, **place})
    return join_frames(frames, root)


def _add_sequence(writer: PanopticWriter, root: str, release: StepRelease, sequence: int) -> None:
    images = _find_folder(root, release.image_folders, sequence)
    maps = _find_folder(root, _MAP_FOLDERS, sequence)
    for frame in _list_images(os.path.join(root, images)):
        map_file = os.path.join(root, maps, f"{os.path.splitext(frame)[0]}.png")
        with open_image(os.path.join(root, images, frame)) as image:
            size = image.height, image.width
        colors = read_panoptic_png(map_file)
        if colors.shape != size:
            raise ValueError(f"{map_file} has size {colors.shape}, but its image has {size}")
        segments = _segments(colors, release, map_file)
        place, image_id = _place(sequence, frame)
        writer.add(f"{images}/{frame}", size, segments, image_id=image_id, entries=place)


def _place(sequence: int, frame: str) -> Tuple[Dict[str, Any], int]:
    """Which frame of which video an image file is, and the id of the image."""
    number = int(os.path.splitext(frame)[0])
    place = {"sequence": f"{sequence:04d}", "frame": number}
    return place, image_id_of_frame(sequence, number)


def _list_images(folder: str) -> List[str]:
    """The names of a video's images, sorted."""
    names = sorted(os.listdir(folder))
    frames = [n for n in names if os.path.splitext(n)[1] in _IMAGE_EXTENSIONS]
    if not frames:
        raise FileNotFoundError(f"{folder} has no image")
    return frames


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
