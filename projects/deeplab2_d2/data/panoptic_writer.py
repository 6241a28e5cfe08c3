"""Writing annotations in COCO panoptic format from masks."""

import os
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ..structures import (
    NUM_PANOPTIC_IDS,
    claim_output,
    is_thing_category,
    write_json,
    write_panoptic_png,
)


@dataclass(frozen=True)
class Segment:
    """
    One segment of an image.

    Args:
        mask: (H, W) bool.
        category_id: id of the dataset's category.
        is_crowd: several things under one mask.
        track_id: of a frame of a video, the number of the object in its class, the same in all
            frames; 0 for stuff and crowds. None of single images.
    """

    mask: np.ndarray
    category_id: int
    is_crowd: bool = False
    track_id: Optional[int] = None


class PanopticWriter:
    """
    Collect images with their segments and write PNGs and the JSON.

    Each image has a PNG of its own below ``panoptic_root``, and no other file is written. Every
    file is whole or absent, and the JSON is written when all is done, so that it never names a PNG
    that is not there.

    Args:
        panoptic_root: folder of the PNGs; made if absent.
        panoptic_json: path of the annotation; its folder is made if absent.
        categories: of COCO panoptic format, ``id``, ``name``, ``isthing``, ...
        software: who writes, kept in every file; None keeps nothing.
    """

    def __init__(
        self,
        *,
        panoptic_root: str,
        panoptic_json: str,
        categories: Sequence[Mapping[str, Any]],
        software: Optional[str] = None,
    ):
        self._software = software
        self.panoptic_root = panoptic_root
        self.panoptic_json = panoptic_json
        self.categories = [dict(category) for category in categories]
        self._is_thing = {c["id"]: is_thing_category(c) for c in categories}
        self._images: List[Dict[str, Any]] = []
        self._owners: Dict[str, str] = {}
        self._annotations: List[Dict[str, Any]] = []
        os.makedirs(panoptic_root, exist_ok=True)
        os.makedirs(os.path.dirname(os.path.abspath(panoptic_json)), exist_ok=True)

    def add(
        self,
        file_name: str,
        size: Tuple[int, int],
        segments: Sequence[Segment],
        image_id: Union[int, str, None] = None,
        entries: Optional[Mapping[str, Any]] = None,
    ) -> List[Segment]:
        """
        Add an image and write its PNG.

        Where masks overlap, the later segment wins. Stuff of one class becomes one segment, and
        what is not seen any more is left out.

        Args:
            file_name: of the image, relative to the folder of the images.
            size: (height, width) of the image.
            segments: from the lowest to the uppermost.
            image_id: default the number of the image, from 1.
            entries: what else the JSON is to tell of the image; see :func:`load_panoptic_json`.

        Returns:
            the segments with their visible pixels, in the order of the JSON.

        Raises:
            ValueError: if a mask has another size, a category is not among the categories, the file
                name leads out of the folder, or an image before has the same PNG.
        """
        segment_map, kept = self._stack(file_name, size, segments)
        (png,) = pngs_of_images([file_name], self._owners)
        ids = np.array([0] + [segment_id(k) for k in range(len(kept))])[segment_map]
        write_panoptic_png(os.path.join(self.panoptic_root, png), ids, software=self._software)

        image_id = len(self._images) + 1 if image_id is None else image_id
        image = {"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]}
        self._images.append({**image, **(entries or {})})
        self._annotations.append(
            {
                "image_id": image_id,
                "file_name": png,
                "segments_info": [_describe(k, segment) for k, segment in enumerate(kept)],
            }
        )
        return kept

    def close(self) -> str:
        """Write the JSON; its path."""
        content = {
            "info": {} if self._software is None else {"contributor": self._software},
            "licenses": [],
            "images": self._images,
            "annotations": self._annotations,
            "categories": self.categories,
        }
        write_json(self.panoptic_json, content)
        return self.panoptic_json

    def _stack(
        self, file_name: str, size: Tuple[int, int], segments: Sequence[Segment]
    ) -> Tuple[np.ndarray, List[Segment]]:
        """Map of places in the returned list plus 1, 0 = unlabeled, and the visible segments."""
        owners = np.zeros(size, np.int32)
        first_of_stuff: Dict[int, int] = {}
        for k, segment in enumerate(segments):
            if segment.category_id not in self._is_thing:
                raise ValueError(
                    f"{file_name}: category id {segment.category_id} is not among the categories"
                )
            if segment.mask.shape != tuple(size):
                raise ValueError(
                    f"{file_name}: a mask of category {segment.category_id} has size "
                    f"{segment.mask.shape}, but the image has {tuple(size)}"
                )
            owner = k
            if not self._is_thing[segment.category_id]:
                owner = first_of_stuff.setdefault(segment.category_id, k)
            owners[segment.mask.astype(bool)] = owner + 1
        visible = [k for k in range(len(segments)) if np.any(owners == k + 1)]
        lookup = np.zeros(len(segments) + 1, np.int32)
        lookup[[k + 1 for k in visible]] = np.arange(1, len(visible) + 1)
        segment_map = lookup[owners]
        kept = [replace(segments[k], mask=segment_map == i + 1) for i, k in enumerate(visible)]
        return segment_map, kept


def png_of_image(file_name: str) -> str:
    """
    The panoptic PNG of an image, both relative to their folders.

    Raises:
        ValueError: if the name is absolute or leads out of its folder, where the PNG could replace
            another file.
    """
    normal = os.path.normpath(file_name)
    if os.path.isabs(file_name) or normal.split(os.sep)[0] == os.pardir or not file_name:
        raise ValueError(
            f"the file name of an image must be relative to its folder and stay in it, "
            f"got {file_name!r}"
        )
    return os.path.splitext(normal)[0] + ".png"


def pngs_of_images(file_names: Iterable[str], owners: Optional[Dict[str, str]] = None) -> List[str]:
    """
    The PNGs of several images, each of its own.

    Args:
        file_names: of the images, relative to their folder.
        owners: images before these, by the name of their PNG without case; filled.

    Raises:
        ValueError: if two images would have one PNG, also where file names know no case; or see
            :func:`png_of_image`.
    """
    owners = {} if owners is None else owners
    pngs = []
    for file_name in file_names:
        png = png_of_image(file_name)
        claim_output(owners, png, file_name, "the annotation")
        pngs.append(png)
    return pngs


def segment_id(k: int) -> int:
    """Id of segment ``k`` of an image: distinct, not 0, and of a color far from its neighbors'."""
    # A multiple of an odd number walks through all of the ids before it repeats.
    return ((k + 1) * 10368889) % NUM_PANOPTIC_IDS


def bounding_box(mask: np.ndarray) -> List[int]:
    """[x, y, width, height] of a mask with at least one pixel."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]


def _describe(k: int, segment: Segment) -> Dict[str, Any]:
    description = {
        "id": segment_id(k),
        "category_id": segment.category_id,
        "iscrowd": int(segment.is_crowd),
        "area": int(segment.mask.sum()),
        "bbox": bounding_box(segment.mask),
    }
    if segment.track_id is not None:
        description["track_id"] = segment.track_id
    return description


def instance_annotations(
    segments: Sequence[Segment], *, image_id: Union[int, str], first_id: int
) -> List[Dict[str, Any]]:
    """
    Annotations in COCO instance format, for evaluation of AP.

    Args:
        segments: things and crowds of an image; their masks may overlap.
        image_id: of the image.
        first_id: id of the first annotation; the others count on.

    Returns:
        one dict a segment, its mask as compressed RLE.
    """
    from pycocotools import mask as mask_util

    annotations = []
    for k, segment in enumerate(segments):
        rle: Optional[Dict[str, Any]] = mask_util.encode(
            np.asfortranarray(segment.mask.astype(np.uint8))
        )
        assert rle is not None
        annotations.append(
            {
                "id": first_id + k,
                "image_id": image_id,
                "category_id": segment.category_id,
                "iscrowd": int(segment.is_crowd),
                "area": int(segment.mask.sum()),
                "bbox": bounding_box(segment.mask),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            }
        )
    return annotations


def write_instances(
    path: str,
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> None:
    """
    Write an annotation in COCO instance format.

    Args:
        path: of the JSON.
        images: ``id``, ``file_name``, ``height`` and ``width`` of each.
        annotations: of :func:`instance_annotations`.
        categories: of COCO panoptic format; those of things are written.
    """
    content = {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [category for category in categories if category["isthing"]],
    }
    write_json(path, content)
