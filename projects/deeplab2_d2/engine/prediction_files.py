"""Panoptic predictions on disk: overlay pictures, and COCO's panoptic PNG and JSON."""

import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from detectron2.data import Metadata
from PIL import Image
from torch import Tensor

from ..structures import (
    DatasetClasses,
    atomic_path,
    check_distinct_stems,
    claim_output,
    stem_of,
    write_json,
    write_panoptic_png,
)
from ..visualization import draw_panoptic_overlay, make_class_colors

PanopticSeg = Tuple[Tensor, List[Dict[str, Any]]]


def panoptic_of_output(output: Mapping[str, Any]) -> PanopticSeg:
    """
    The panoptic prediction of an image; of a semantic model one segment a class.

    Args:
        output: of a model, with ``panoptic_seg`` or (C, H, W) ``sem_seg``.
    """
    if "panoptic_seg" in output:
        return output["panoptic_seg"]
    classes = output["sem_seg"].argmax(dim=0)
    present = torch.unique(classes).tolist()
    segments = [{"id": k + 1, "category_id": k, "isthing": False} for k in present]
    return (classes + 1).to(torch.int32), segments


class PredictionWriter:
    """
    Write one overlay and one panoptic PNG an image, and a JSON of all at the end.

    The PNG has the segment id in its color (0 is void), the JSON is COCO's panoptic result format
    with ids of the dataset. Each file is whole or not there.
    """

    def __init__(self, folder: str, metadata: Metadata, *, file_names: Sequence[str] = ()):
        """
        Args:
            folder: made if it does not exist.
            metadata: classes, colors and ids of the dataset that the model was trained on.
            file_names: inputs that will be added, to be checked before there is work to lose.

        Raises:
            ValueError: if two of the inputs would have outputs of one name.
        """
        check_distinct_stems(file_names)
        self.folder = folder
        self._categories = DatasetClasses.from_metadata(metadata).categories
        self._owners: Dict[str, str] = {}
        names = metadata.stuff_classes
        self._colors = np.array(metadata.get("stuff_colors", make_class_colors(len(names))))
        self._annotations: List[Dict[str, Any]] = []
        self._images: List[Dict[str, Any]] = []
        os.makedirs(folder, exist_ok=True)

    def add(self, file_name: str, image: np.ndarray, panoptic_seg: PanopticSeg) -> str:
        """
        Write the pictures of one image.

        Args:
            file_name: of the input; its stem names the outputs.
            image: (H, W, 3) uint8 RGB.
            panoptic_seg: of the model, (H, W).

        Returns:
            The path of the overlay.

        Raises:
            ValueError: if an image with this stem has been written already, or an id is negative.
        """
        stem = stem_of(file_name)
        png = f"{stem}_panoptic.png"
        claim_output(self._owners, png, file_name)
        segment_map, segments = panoptic_seg
        ids = segment_map.cpu().numpy()
        write_panoptic_png(os.path.join(self.folder, png), ids)
        overlay = draw_panoptic_overlay(image, (ids, segments), self._colors)
        path = self._save(overlay, f"{stem}_overlay.png")
        image_id = len(self._images) + 1
        height, width = ids.shape
        self._images.append(
            {"id": image_id, "file_name": file_name, "height": height, "width": width}
        )
        self._annotations.append(
            {
                "image_id": image_id,
                "file_name": png,
                "segments_info": [self._segment(segment) for segment in segments],
            }
        )
        return path

    def close(self) -> str:
        """Write ``panoptic.json`` and return its path."""
        path = os.path.join(self.folder, "panoptic.json")
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": list(self._categories.values()),
        }
        write_json(path, content)
        return path

    def _segment(self, segment: Mapping[str, Any]) -> Dict[str, Any]:
        category = self._categories[segment["category_id"]]
        return {**segment, "category_id": category["id"], "category": category["name"]}

    def _save(self, picture: np.ndarray, name: str) -> str:
        path = os.path.join(self.folder, name)
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        return path
