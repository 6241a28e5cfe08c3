"""
PASCAL VOC 2012 with the further annotations of SBD, for semantic segmentation.

``train_aug``, on which all of DeepLab is trained, is what VOC or SBD (Hariharan et al., "Semantic
contours from inverse detectors", ICCV 2011) annotate, without the images of ``val``: 10,582 images.
Where VOC has an annotation, it is taken; SBD's have no void border around objects.
"""

import os
from typing import Any, Dict, List, Set

import numpy as np

from ..structures import open_image, read_label_map
from .panoptic_writer import PanopticWriter, Segment

FOLDER = "VOC2012"
SBD_FOLDER = "benchmark_RELEASE"
SPLITS = ("train", "train_aug", "val", "trainval")

_NAMES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
).split()
_VOID = 255


def pascal_voc_categories() -> List[Dict[str, Any]]:
    """The 21 categories in COCO panoptic form; none has instances here. Ids are VOC's labels."""
    return [{"id": k, "name": name, "isthing": 0} for k, name in enumerate(_NAMES)]


def prepare_pascal_voc(root: str, split: str) -> str:
    """
    Write ``panoptic_<split>/`` and ``panoptic_<split>.json``.

    Args:
        root: the folder ``VOC2012``; of "train_aug" with SBD's ``benchmark_RELEASE`` inside.
        split: one of ``SPLITS``.

    Returns:
        the path of the JSON.

    Raises:
        FileNotFoundError: if a list, an image or an annotation is missing.
        ValueError: for a split that is none of these, or an annotation of another size or label.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    writer = PanopticWriter(
        panoptic_root=os.path.join(root, f"panoptic_{split}"),
        panoptic_json=os.path.join(root, f"panoptic_{split}.json"),
        categories=pascal_voc_categories(),
    )
    for name in image_names(root, split):
        with open_image(os.path.join(root, "JPEGImages", f"{name}.jpg")) as image:
            size = (image.height, image.width)
        labels = _read_labels(root, name)
        if labels.shape != size:
            raise ValueError(f"annotation of {name} has size {labels.shape}, its image {size}")
        classes = [label for label in np.unique(labels).tolist() if label != _VOID]
        if classes and max(classes) >= len(_NAMES):
            raise ValueError(
                f"annotation of {name} must have labels below {len(_NAMES)} or {_VOID}, got "
                f"{max(classes)}"
            )
        segments = [Segment(labels == label, label) for label in classes]
        writer.add(f"{name}.jpg", size, segments, image_id=name)
    return writer.close()


def image_names(root: str, split: str) -> List[str]:
    """The images of a split, sorted; see the module for ``train_aug``."""
    if split != "train_aug":
        return sorted(_read_list(os.path.join(root, "ImageSets", "Segmentation", f"{split}.txt")))
    annotated = set(image_names(root, "train"))
    for part in ("train", "val"):
        annotated |= _read_list(os.path.join(root, SBD_FOLDER, "dataset", f"{part}.txt"))
    return sorted(annotated - set(image_names(root, "val")))


def _read_list(file: str) -> Set[str]:
    with open(file, encoding="utf-8") as lines:
        return {line.strip() for line in lines if line.strip()}


def _read_labels(root: str, name: str) -> np.ndarray:
    """(H, W) int64: VOC's annotation, else SBD's."""
    file = os.path.join(root, "SegmentationClass", f"{name}.png")
    if os.path.isfile(file):
        return read_label_map(file, "annotation")
    # Only SBD needs it.
    from scipy.io import loadmat

    file = os.path.join(root, SBD_FOLDER, "dataset", "cls", f"{name}.mat")
    content = loadmat(file, mat_dtype=False, squeeze_me=True, struct_as_record=False)
    return np.asarray(content["GTcls"].Segmentation, dtype=np.int64)
