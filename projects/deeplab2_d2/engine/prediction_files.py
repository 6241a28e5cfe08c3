"""Panoptic predictions on disk: overlay pictures, and COCO's panoptic PNG and JSON."""

import json
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from detectron2.data import Metadata
from PIL import Image
from scipy.ndimage import find_objects
from torch import Tensor

from ..structures import (
    atomic_path,
    check_distinct_stems,
    check_not_inputs,
    claim_output,
    stem_of,
    write_json,
    write_panoptic_png,
)
from ..visualization import draw_named_overlay
from .palette import Palette

PanopticSeg = Tuple[Tensor, List[Dict[str, Any]]]


def panoptic_of_output(output: Mapping[str, Any]) -> PanopticSeg:
    """
    The panoptic prediction of an image; of a semantic model one segment a class.

    Such a segment's ``score`` is the mean probability of its class over its pixels.

    Args:
        output: of a model, with ``panoptic_seg`` or (C, H, W) ``sem_seg``, logits or the logarithms
            of probabilities.
    """
    if "panoptic_seg" in output:
        return output["panoptic_seg"]
    scores = output["sem_seg"].float()
    best, classes = scores.max(dim=0)
    probability = (best - scores.logsumexp(dim=0)).exp()
    sums = torch.bincount(classes.flatten(), weights=probability.flatten(), minlength=len(scores))
    areas = torch.bincount(classes.flatten(), minlength=len(scores))
    segments = []
    for k in torch.nonzero(areas)[:, 0].tolist():
        score = min(float(sums[k] / areas[k]), 1.0)
        segments.append({"id": k + 1, "category_id": k, "isthing": False, "score": score})
    return (classes + 1).to(torch.int32), segments


def hide_uncertain(panoptic_seg: PanopticSeg, confidence: float) -> PanopticSeg:
    """
    Leave out the segments of a lower score than ``confidence``: their pixels become void (0).

    Those without a score stay.
    """
    segment_map, segments = panoptic_seg
    kept = [segment for segment in segments if _score(segment) >= confidence]
    if len(kept) == len(segments):
        return panoptic_seg
    hidden = [segment["id"] for segment in segments if _score(segment) < confidence]
    is_hidden = torch.isin(segment_map, torch.tensor(hidden, device=segment_map.device))
    return segment_map.masked_fill(is_hidden, 0), kept


def _score(segment: Mapping[str, Any]) -> float:
    score = segment.get("score")
    return 1.0 if score is None else float(score)


def boxes_of_segments(
    ids: np.ndarray, segment_ids: Sequence[int]
) -> List[Tuple[int, Tuple[int, int, int, int]]]:
    """
    Args:
        ids: (H, W) integer.
        segment_ids: values of it.

    Returns:
        Of each its area in pixels and its box ``(x0, y0, x1, y1)``, whose last column is x1 - 1;
        zeros where it has no pixel.
    """
    present, inverse = np.unique(ids, return_inverse=True)
    places = {int(value): place for place, value in enumerate(present)}
    numbers = inverse.reshape(ids.shape) + 1
    areas, slices = np.bincount(numbers.ravel()), find_objects(numbers)
    found: List[Tuple[int, Tuple[int, int, int, int]]] = []
    for value in segment_ids:
        place = places.get(value)
        if place is None:
            found.append((0, (0, 0, 0, 0)))
            continue
        rows, columns = slices[place]
        box = (columns.start, rows.start, columns.stop, rows.stop)
        found.append((int(areas[place + 1]), box))
    return found


class PredictionWriter:
    """
    Write one overlay and one panoptic PNG an image, and a JSON of all at the end.

    The overlay has the names and scores of segments, and a legend below the image.

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
            ValueError: if two of the inputs would have outputs of one name, an input would be
                written over, or what stands at the place of the JSON is no JSON of predictions.
        """
        check_distinct_stems(file_names)
        self.folder = folder
        outputs = [path for name in file_names for path in self._paths(name)]
        check_not_inputs([*outputs, self._json], file_names)
        self._check_earlier()
        self._palette = Palette(metadata)
        self._owners: Dict[str, str] = {}
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
        overlay_path, png_path = self._paths(file_name)
        png = os.path.basename(png_path)
        claim_output(self._owners, png, file_name)
        segment_map, segments = panoptic_seg
        ids = segment_map.cpu().numpy()
        write_panoptic_png(png_path, ids)
        palette = self._palette
        overlay = draw_named_overlay(image, (ids, segments), palette.colors, palette.names)
        with atomic_path(overlay_path) as temporary:
            Image.fromarray(overlay).save(temporary, format="PNG")
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
        return overlay_path

    def close(self) -> str:
        """Write ``panoptic.json`` and return its path."""
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": list(self._palette.categories),
        }
        write_json(self._json, content)
        return self._json

    @property
    def _json(self) -> str:
        return os.path.join(self.folder, "panoptic.json")

    def _paths(self, file_name: str) -> List[str]:
        """Overlay and panoptic PNG of an input."""
        stem = os.path.join(self.folder, stem_of(file_name))
        return [f"{stem}_overlay.png", f"{stem}_panoptic.png"]

    def _check_earlier(self) -> None:
        if not os.path.exists(self._json):
            return
        try:
            with open(self._json, encoding="utf-8") as file:
                names = [str(item["file_name"]) for item in json.load(file)["annotations"]]
        except (ValueError, LookupError, TypeError):
            names = [""]
        if not all(name.endswith("_panoptic.png") for name in names):
            raise ValueError(
                f"{self._json} must be of predictions of a run before, which are replaced, got "
                "another file; choose another folder"
            )

    def _segment(self, segment: Mapping[str, Any]) -> Dict[str, Any]:
        category = self._palette.category(segment["category_id"])
        return {**segment, "category_id": category["id"], "category": category["name"]}
