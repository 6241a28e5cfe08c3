"""Folders of generated datasets: each is absent or complete, and is made once; their images."""

import json
import logging
import os
import shutil
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Sequence

import numpy as np
from PIL import Image

from ..structures import write_json
from .panoptic_writer import PanopticWriter, Segment, write_instances

logger = logging.getLogger(__name__)


def write_once(
    folder: str, kind: str, wanted: Mapping[str, Any], write: Callable[[str], Dict[str, Any]]
) -> Dict[str, Any]:
    """
    Write a dataset, or use the complete one that is there.

    Everything is written under a temporary name beside ``folder`` and renamed at the end, so that
    ``folder`` is either absent or complete, also after an interruption.

    Args:
        folder: where it goes.
        kind: what it is, for messages.
        wanted: fields of ``info.json`` that have to agree before a complete set is used again.
        write: fills an empty folder; returns the statistics.

    Returns:
        the content of ``info.json``: ``wanted`` and the statistics.

    Raises:
        ValueError: if ``folder`` exists and was made with other options, or holds anything else.
    """
    folder = os.path.abspath(folder)
    wanted = json.loads(json.dumps(wanted))
    if os.path.exists(folder):
        return _read_complete(folder, kind, wanted)

    partial = f"{folder}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    info = {**wanted, **write(partial)}
    write_json(os.path.join(partial, "info.json"), info)
    try:
        os.rename(partial, folder)
    except OSError:
        # Another process was faster; its folder is complete, for it was renamed as well.
        shutil.rmtree(partial)
        return _read_complete(folder, kind, wanted)
    logger.info("Wrote the %s dataset to %s", kind, folder)
    return info


def _read_complete(folder: str, kind: str, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    info_file = os.path.join(folder, "info.json")
    if not os.path.isfile(info_file):
        raise ValueError(f"folder {folder} exists and is no {kind} dataset: it has no info.json")
    with open(info_file) as f:
        info = json.load(f)
    for key, value in wanted.items():
        if info.get(key) != value:
            raise ValueError(
                f"folder {folder} holds a {kind} dataset with {key} {info.get(key)}, wanted "
                f"{value}; remove it or write elsewhere"
            )
    return info


class DrawnImage(NamedTuple):
    """
    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        segments: for :meth:`PanopticWriter.add`.
        annotate: from the segments that are seen, the image's id and the first free id of an
            annotation to annotations in COCO instance format.
    """

    pixels: np.ndarray
    segments: Sequence[Segment]
    annotate: Callable[[List[Segment], int, int], List[Dict[str, Any]]]


def write_image_split(
    folder: str,
    split: str,
    drawn_images: Iterable[DrawnImage],
    categories: Sequence[Mapping[str, Any]],
) -> None:
    """
    Write a split of single images: ``<split>/*.jpg``, ``panoptic_<split>/*.png`` and
    ``annotations/{panoptic,instances}_<split>.json``.

    Args:
        folder: of the dataset.
        split: "train" or "val".
        drawn_images: in the order of their numbers.
        categories: of COCO panoptic format.
    """
    annotations = os.path.join(folder, "annotations")
    os.makedirs(os.path.join(folder, split))
    os.makedirs(annotations, exist_ok=True)
    writer = PanopticWriter(
        panoptic_root=os.path.join(folder, f"panoptic_{split}"),
        panoptic_json=os.path.join(annotations, f"panoptic_{split}.json"),
        categories=categories,
    )
    images: List[Dict[str, Any]] = []
    instances: List[Dict[str, Any]] = []
    for number, drawn in enumerate(drawn_images):
        height, width = drawn.pixels.shape[:2]
        file_name = f"{number:06d}.jpg"
        # Without chroma subsampling, which would blur the textures' colors.
        path = os.path.join(folder, split, file_name)
        Image.fromarray(drawn.pixels).save(path, quality=95, subsampling=0)
        image_id = number + 1
        seen = writer.add(file_name, (height, width), drawn.segments, image_id=image_id)
        instances += drawn.annotate(seen, image_id, len(instances) + 1)
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
    writer.close()
    path = os.path.join(annotations, f"instances_{split}.json")
    write_instances(path, images, instances, categories)
