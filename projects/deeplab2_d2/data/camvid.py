"""
CamVid with the 11 classes, the split and the size (360 x 480) of SegNet: semantic maps alone.

Reference: Brostow et al., "Semantic object classes in video: a high-definition ground truth
database" (Pattern Recognition Letters 2009); SegNet (arXiv:1511.00561), Sec. 4.1, for the split.
"""

import glob
import os
import shutil
from typing import Any, Dict, List, Tuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ..structures import IMAGE_ENDINGS, atomic_path, photo_size, read_label_map

FOLDER = "camvid"
SPLITS = ("train", "val", "test")
IGNORE_LABEL = 255
# In the order of the labels, with the colors that CamVid's own classes have.
CLASSES: Tuple[Tuple[str, Tuple[int, int, int]], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
# Of unlabeled pixels in SegNet's PNGs.
_VOID = len(CLASSES)
# A split's images and annotations, in SegNet's repository and as they are written here.
_LAYOUTS = (("{split}", "{split}annot"), ("{split}", os.path.join("annotations", "{split}")))


def register_camvid(root: str) -> None:
    """
    Register ``camvid_sem_seg_{train,val,test}``, each if no dataset has that name yet.

    Args:
        root: folder of all datasets.
    """
    folder = os.path.join(root, FOLDER)
    for split in SPLITS:
        name = f"camvid_sem_seg_{split}"
        if name in DatasetCatalog.list():
            continue
        DatasetCatalog.register(name, lambda split=split: load_camvid(folder, split))
        MetadataCatalog.get(name).set(
            stuff_classes=[name for name, _ in CLASSES],
            stuff_colors=[list(color) for _, color in CLASSES],
            image_root=os.path.join(folder, split),
            sem_seg_root=os.path.join(folder, "annotations", split),
            evaluator_type="sem_seg",
            ignore_label=IGNORE_LABEL,
        )


def load_camvid(folder: str, split: str) -> List[Dict[str, Any]]:
    """
    Dataset dicts of a split, sorted by name.

    Args:
        folder: that :func:`prepare_camvid` has written.
        split: one of ``SPLITS``.

    Returns:
        dicts with ``file_name``, ``sem_seg_file_name``, ``image_id``, ``height`` and ``width``.

    Raises:
        FileNotFoundError: if there is no image, or one has no annotation.
    """
    dicts = []
    for image, annotation in _pairs(folder, split, _LAYOUTS[1]):
        height, width = photo_size(image)
        dicts.append(
            {
                "file_name": image,
                "sem_seg_file_name": annotation,
                "image_id": os.path.splitext(os.path.basename(image))[0],
                "height": height,
                "width": width,
            }
        )
    return dicts


def prepare_camvid(source: str, folder: str, split: str) -> Tuple[str, int]:
    """
    Write ``<split>/`` with copies of the images, and ``annotations/<split>/*.png``.

    Args:
        source: a folder with ``train/`` and ``trainannot/`` (``CamVid`` in a clone of SegNet's
            repository), or with ``train/`` and ``annotations/train/``; labels 0 to 10, and 11 or
            255 for void.
        folder: where to write; not in ``source``.
        split: one of ``SPLITS``.

    Returns:
        the folder of the annotations, and the number of images.

    Raises:
        FileNotFoundError: if there is no image, or one has no annotation.
        ValueError: for another split, an annotation of another size than its image or with another
            label, or a ``folder`` that is ``source``.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    if os.path.realpath(source) == os.path.realpath(folder):
        raise ValueError(f"folder must be another than source, got {source} for both")
    layout = next(
        (names for names in _LAYOUTS if os.path.isdir(_folder(source, names[1], split))), None
    )
    if layout is None:
        raise FileNotFoundError(
            f"folder {source} must have {split}annot/ (SegNet's) or annotations/{split}/, has "
            "neither"
        )
    roots = [_folder(folder, name, split) for name in _LAYOUTS[1]]
    for root in roots:
        os.makedirs(root, exist_ok=True)
    pairs = _pairs(source, split, layout)
    for image, annotation in pairs:
        labels = _read_labels(image, annotation)
        with atomic_path(os.path.join(roots[1], os.path.basename(annotation))) as temporary:
            Image.fromarray(labels).save(temporary, format="PNG")
        with atomic_path(os.path.join(roots[0], os.path.basename(image))) as temporary:
            shutil.copyfile(image, temporary)
    return roots[1], len(pairs)


def _folder(root: str, name: str, split: str) -> str:
    return os.path.join(root, name.format(split=split))


def _pairs(root: str, split: str, layout: Tuple[str, str]) -> List[Tuple[str, str]]:
    """Images and annotations of a split, sorted."""
    image_root, annotation_root = (_folder(root, name, split) for name in layout)
    images = sorted(
        file
        for file in glob.glob(os.path.join(glob.escape(image_root), "*"))
        if file.lower().endswith(IMAGE_ENDINGS)
    )
    if not images:
        raise FileNotFoundError(
            f"folder {image_root} has no image; datasets/README.md says how to make it"
        )
    pairs = []
    for image in images:
        stem = os.path.splitext(os.path.basename(image))[0]
        annotation = os.path.join(annotation_root, f"{stem}.png")
        if not os.path.isfile(annotation):
            raise FileNotFoundError(f"image {image} has no annotation {annotation}")
        pairs.append((image, annotation))
    return pairs


def _read_labels(image: str, annotation: str) -> np.ndarray:
    """(H, W) uint8, void as ``IGNORE_LABEL``."""
    labels = read_label_map(annotation, "annotation")
    if labels.shape != tuple(photo_size(image)):
        raise ValueError(
            f"annotation {annotation} has size {labels.shape}, its image {photo_size(image)}"
        )
    labels[labels == _VOID] = IGNORE_LABEL
    wrong = labels[(labels > _VOID) & (labels != IGNORE_LABEL)]
    if len(wrong):
        raise ValueError(
            f"annotation {annotation} must have labels below {_VOID}, or {_VOID} or "
            f"{IGNORE_LABEL} for void, got {int(wrong[0])}"
        )
    return labels.astype(np.uint8)
