"""Panoptic predictions on disk: overlay pictures, and COCO's panoptic PNG and JSON."""

import json
import os
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
from detectron2.data import Metadata
from PIL import Image
from torch import Tensor

from ..checkpoint.atomic import atomic_path
from ..visualization import draw_panoptic_overlay, make_class_colors

PanopticSeg = Tuple[Tensor, List[Dict[str, Any]]]


class PredictionWriter:
    """
    Write one overlay and one panoptic PNG an image, and a JSON of all at the end.

    The PNG has the segment id in its colour (``id = R + 256 G + 65536 B``, 0 is void), the JSON is
    COCO's panoptic result format with ids of the dataset. Each file is written under a temporary
    name and renamed.
    """

    def __init__(self, folder: str, metadata: Metadata):
        """
        Args:
            folder: made if it does not exist.
            metadata: classes, colours and ids of the dataset that the model was trained on.
        """
        self.folder = folder
        self._categories = _dataset_categories(metadata)
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
            ValueError: if an image with this stem has been written already.
        """
        stem = os.path.splitext(os.path.basename(file_name))[0]
        png = f"{stem}_panoptic.png"
        if any(annotation["file_name"] == png for annotation in self._annotations):
            raise ValueError(f"two inputs are called {stem!r}: {file_name} would be overwritten")
        segment_map, segments = panoptic_seg
        ids = segment_map.cpu().numpy()
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        self._save(colors, png)
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
        with atomic_path(path) as temporary, open(temporary, "w") as file:
            json.dump(content, file)
        return path

    def _segment(self, segment: Mapping[str, Any]) -> Dict[str, Any]:
        category = self._categories[segment["category_id"]]
        return {**segment, "category_id": category["id"], "category": category["name"]}

    def _save(self, picture: np.ndarray, name: str) -> str:
        path = os.path.join(self.folder, name)
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        return path


def _dataset_categories(metadata: Metadata) -> Dict[int, Dict[str, Any]]:
    """Contiguous id to COCO's category entry."""
    categories: Dict[int, Dict[str, Any]] = {}
    for is_thing, classes, ids in (
        (1, metadata.thing_classes, metadata.thing_dataset_id_to_contiguous_id),
        (0, metadata.stuff_classes, metadata.stuff_dataset_id_to_contiguous_id),
    ):
        for dataset_id, contiguous in ids.items():
            # Cityscapes lists all classes in both; what is a thing stays one.
            entry = {"id": dataset_id, "name": classes[contiguous], "isthing": is_thing}
            categories.setdefault(contiguous, entry)
    return categories
