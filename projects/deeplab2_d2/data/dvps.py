"""
Cityscapes-DVPS and SemKITTI-DVPS: videos with panoptic maps and depth, in COCO panoptic format.

The releases have for each frame ``<sequence>_<frame>_..._leftImg8bit.png`` its labels and its depth
beside it. :func:`prepare_dvps` makes the annotations of the labels; depth is used as it is.
Reference: ViP-DeepLab (arXiv:2012.05258) and github.com/joe-siyuan-qiao/ViP-DeepLab.
"""

import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

from ..structures import open_image, read_label_map
from .panoptic_writer import PanopticWriter
from .sequences import image_id_of_frame, join_frames
from .track_segments import track_segments

FRAMES_FOLDER = "video_sequence"
PANOPTIC_FOLDER = "panoptic"
LABELED_SPLITS = ("train", "val")
_IMAGE = re.compile(r"(?P<stem>(?P<sequence>\d{6})_(?P<frame>\d{6})\w*)_leftImg8bit\.png")
# Of SemKITTI-DVPS the focal length is the last part of the name.
_DEPTH = re.compile(r"(?P<stem>\w+)_depth(_(?P<focal_length>\d+(\.\d+)?))?\.png")

Labels = Tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class DvpsRelease:
    """
    What one of the two releases holds.

    Args:
        categories: name, whether a thing, color; in the order of their ids.
        label_divisor: tracks of a class are numbered below it.
        void: class of unlabeled pixels in the release's own maps.
        vpq_windows: lengths of VPQ's windows in the published results, in frames.
        read_labels: from the path of a frame, without the endings, to its classes and numbers of
            instances, (H, W) integers.
    """

    categories: Tuple[Tuple[str, int, Tuple[int, int, int]], ...]
    label_divisor: int
    void: int
    vpq_windows: Tuple[int, ...]
    read_labels: Callable[[str], Labels]


def _read_joined_labels(stem: str) -> Labels:
    """Class * 1000 + number in one map."""
    labels = read_label_map(f"{stem}_gtFine_instanceTrainIds.png")
    return labels // 1000, labels % 1000


def _read_separate_labels(stem: str) -> Labels:
    classes = read_label_map(f"{stem}_gtFine_class.png")
    numbers = read_label_map(f"{stem}_gtFine_instance.png")
    if classes.shape != numbers.shape:
        raise ValueError(
            f"{stem}_gtFine_instance.png must have the size of its classes, {classes.shape}, "
            f"got {numbers.shape}"
        )
    return classes, numbers


# SemanticKITTI's names and colors.
_SEMKITTI_CATEGORIES = (
    ("car", 1, (100, 150, 245)),
    ("bicycle", 1, (100, 230, 245)),
    ("motorcycle", 1, (30, 60, 150)),
    ("truck", 1, (80, 30, 180)),
    ("other-vehicle", 1, (0, 0, 255)),
    ("person", 1, (255, 30, 30)),
    ("bicyclist", 1, (255, 40, 200)),
    ("motorcyclist", 1, (150, 30, 90)),
    ("road", 0, (255, 0, 255)),
    ("parking", 0, (255, 150, 255)),
    ("sidewalk", 0, (75, 0, 75)),
    ("other-ground", 0, (175, 0, 75)),
    ("building", 0, (255, 200, 0)),
    ("fence", 0, (255, 120, 50)),
    ("vegetation", 0, (0, 175, 0)),
    ("trunk", 0, (135, 60, 0)),
    ("terrain", 0, (150, 240, 80)),
    ("pole", 0, (255, 240, 150)),
    ("traffic-sign", 0, (255, 0, 0)),
)

# By the name of the folder, with which the registered names begin as well.
DVPS_RELEASES = {
    "cityscapes_dvps": DvpsRelease(
        categories=tuple(
            (c["name"], c["isthing"], tuple(c["color"])) for c in CITYSCAPES_CATEGORIES
        ),
        label_divisor=1000,
        void=32,
        vpq_windows=(1, 2, 3, 4),
        read_labels=_read_joined_labels,
    ),
    "semkitti_dvps": DvpsRelease(
        categories=_SEMKITTI_CATEGORIES,
        label_divisor=65536,
        void=255,
        vpq_windows=(1, 5, 10, 20),
        read_labels=_read_separate_labels,
    ),
}


def dvps_categories(name: str) -> List[Dict[str, Any]]:
    """The categories of ``DVPS_RELEASES[name]`` in COCO panoptic form."""
    return [
        {"id": k, "name": category, "isthing": is_thing, "color": list(color)}
        for k, (category, is_thing, color) in enumerate(DVPS_RELEASES[name].categories)
    ]


def dvps_json(root: str, name: str, split: str) -> str:
    """Path of a split's annotation in the release's folder ``root``."""
    return os.path.join(root, f"{name}_panoptic_{split}.json")


def prepare_dvps(root: str, name: str, split: str) -> str:
    """
    Write the PNGs below ``panoptic/`` and ``<name>_panoptic_<split>.json``.

    A thing without a number is a crowd. An image's id is 1000000 * sequence + frame; the number of
    an instance is its ``track_id``.

    Args:
        root: folder of the release.
        name: key of ``DVPS_RELEASES``.
        split: "train" or "val".

    Returns:
        the path of the JSON.

    Raises:
        FileNotFoundError: if the release is not complete.
        ValueError: if labels are not of their image's size, or have a class that is not there.
    """
    release, categories = DVPS_RELEASES[name], dvps_categories(name)
    folder = os.path.join(root, FRAMES_FOLDER, split)
    frames, depths = _list_frames(folder), _list_depths(folder)
    writer = PanopticWriter(
        panoptic_root=os.path.join(root, PANOPTIC_FOLDER),
        panoptic_json=dvps_json(root, name, split),
        categories=categories,
    )
    for frame in frames:
        stem = os.path.join(folder, frame["stem"])
        if frame["stem"] not in depths:
            raise FileNotFoundError(f"{stem} has no depth; is the release complete?")
        with open_image(f"{stem}_leftImg8bit.png") as image:
            size = image.height, image.width
        classes, numbers = release.read_labels(stem)
        if classes.shape != size:
            raise ValueError(f"labels of {stem} have size {classes.shape}, its image has {size}")
        segments = track_segments(
            classes,
            numbers,
            num_classes=len(categories),
            thing_ids={category["id"] for category in categories if category["isthing"]},
            void=release.void,
            source=f"labels of {stem}",
        )
        writer.add(
            f"{FRAMES_FOLDER}/{split}/{frame[0]}",
            size,
            segments,
            image_id=_image_id(frame),
            entries={**_place(frame), **_of_depth(depths[frame["stem"]], split)},
        )
    return writer.close()


def load_dvps_images(folder: str) -> List[Dict[str, Any]]:
    """
    Dataset dicts of the frames of a folder without labels.

    Args:
        folder: of a split.

    Returns:
        dicts with ``file_name``, ``image_id``, ``sequence``, ``frame`` and their neighbors.

    Raises:
        FileNotFoundError: if there is none.
    """
    return join_frames(
        (
            {
                "file_name": os.path.join(folder, frame[0]),
                "image_id": _image_id(frame),
                **_place(frame),
            }
            for frame in _list_frames(folder)
        ),
        folder,
    )


def _list_frames(folder: str) -> "List[re.Match[str]]":
    """The images of a folder, sorted: whole name, ``stem``, ``sequence``, ``frame``."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    frames = [match for match in map(_IMAGE.fullmatch, names) if match]
    if not frames:
        raise FileNotFoundError(
            f"{folder} has no <sequence>_<frame>..._leftImg8bit.png; is the release complete?"
        )
    return frames


def _list_depths(folder: str) -> "Dict[str, re.Match[str]]":
    """The depth PNGs of a folder by the stem of their frame."""
    matches = map(_DEPTH.fullmatch, os.listdir(folder))
    return {match["stem"]: match for match in matches if match}


def _image_id(frame: "re.Match[str]") -> int:
    return image_id_of_frame(int(frame["sequence"]), int(frame["frame"]))


def _place(frame: "re.Match[str]") -> Dict[str, Any]:
    return {"sequence": frame["sequence"], "frame": int(frame["frame"])}


def _of_depth(depth: "re.Match[str]", split: str) -> Dict[str, Any]:
    """What the JSON tells of an image's depth."""
    entries: Dict[str, Any] = {"depth_file_name": f"{FRAMES_FOLDER}/{split}/{depth[0]}"}
    if depth["focal_length"]:
        entries["focal_length"] = float(depth["focal_length"])
    return entries
