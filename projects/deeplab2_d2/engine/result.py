"""What a model says of an image, for Python programs."""

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
from detectron2.structures import Instances
from PIL import Image

from ..structures import (
    IMAGE_ENDINGS,
    atomic_path,
    check_not_inputs,
    check_output_name,
    has_semantic,
    ids_to_colors,
    semantic_labels_of,
    write_depth_png,
    write_json,
    write_panoptic_png,
)
from ..visualization import draw_named_overlay
from .image_input import NamedImage
from .palette import Palette
from .prediction_files import boxes_of_segments, hide_uncertain, panoptic_of_output

# (x0, y0, x1, y1) in pixels; the last column is x1 - 1.
Box = Tuple[int, int, int, int]


@dataclass(frozen=True)
class Segment:
    """
    One segment of a panoptic map.

    Attributes:
        id: its value in :attr:`Result.panoptic`.
        name: of its class.
        class_id: of its class, contiguous: a value of :attr:`Result.semantic`, an index into
            ``Model.classes``.
        category_id: of its class, as the dataset counts: the one of COCO's files.
        is_thing: whether its class has instances.
        score: in [0, 1]; None where the model gives none. Of a semantic model it is the mean
            probability of the class over the segment.
        area: in pixels.
        box: ``(x0, y0, x1, y1)`` in pixels; the last column is x1 - 1.
    """

    id: int
    name: str
    class_id: int
    category_id: int
    is_thing: bool
    score: Optional[float]
    area: int
    box: Box


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """
    What a model says of an image; all maps have the size of the (upright) image.

    Attributes:
        name: the image's file name without folder and ending; ``image`` where it has none.
        file_name: of the image; "" where it has none.
        image: (H, W, 3) uint8 RGB.
        panoptic: (H, W) int32, the ids of :attr:`segments`; 0 is void. Of a semantic model, each
            class in the image is one segment.
        segments: in the order of their ids.
        semantic: (H, W) int32, contiguous class ids; -1 is void, which only a model has that
            returns no semantic scores.
        semantic_scores: (C, H, W) float32 logits, if they were asked for and the model has them.
        instances: Detectron2's, on the CPU, best score first, with ``pred_boxes``, ``pred_masks``,
            ``pred_classes`` and ``scores``; None of a model without them.
        depth: (H, W) float32 in meters; None of a model without it.
    """

    name: str
    file_name: str
    image: np.ndarray
    panoptic: np.ndarray
    segments: Tuple[Segment, ...]
    semantic: np.ndarray
    semantic_scores: Optional[np.ndarray]
    instances: Optional[Instances]
    depth: Optional[np.ndarray]
    palette: Palette = field(repr=False)

    def __repr__(self) -> str:
        height, width = self.panoptic.shape
        found = ", ".join(segment.name for segment in self.segments)
        return f"Result({self.name!r}, {width} x {height}, {len(self.segments)} segments: {found})"

    def mask(self, segment: Segment) -> np.ndarray:
        """(H, W) bool: where a segment of :attr:`segments` is."""
        return self.panoptic == segment.id

    def overlay(self, *, names: bool = True, legend: bool = False) -> Image.Image:
        """
        The segments over the image.

        Args:
            names: write names and scores into the segments that have the room.
            legend: add the classes that there are, below the image; else the picture has its size.

        Returns:
            RGB.
        """
        info = [self._info(segment) for segment in self.segments]
        picture = draw_named_overlay(
            self.image,
            (self.panoptic, info),
            self.palette.colors,
            self.palette.names,
            is_named=names,
            has_legend=legend,
        )
        return Image.fromarray(picture)

    def to_coco(self, image_id: int = 1) -> Tuple[Dict[str, Any], Image.Image]:
        """
        The prediction in COCO's panoptic format, as its evaluation and its server take it.

        Args:
            image_id: of the image, in the dataset's JSON.

        Returns:
            The entry of the image in ``annotations``, whose ``category_id`` are the dataset's, and
            the PNG that it names, ``NAME_panoptic.png``: the color of a pixel is the id of its
            segment, R + 256 G + 256^2 B.
        """
        segments = []
        for segment in self.segments:
            left, top, right, bottom = segment.box
            entry: Dict[str, Any] = {
                "id": segment.id,
                "category_id": segment.category_id,
                "area": segment.area,
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
            segments.append(entry if segment.score is None else {**entry, "score": segment.score})
        annotation = {
            "image_id": image_id,
            "file_name": f"{self.name}_panoptic.png",
            "segments_info": segments,
        }
        return annotation, Image.fromarray(ids_to_colors(self.panoptic, self.name))

    def save(self, path: "str | os.PathLike[str]", *, name: Optional[str] = None) -> List[str]:
        """
        Write the overlay, or everything.

        Args:
            path: a file that ends as an image (``street.png``): the overlay with its legend is
                written. Else a folder, which is made: ``NAME_overlay.png``, ``NAME_panoptic.png``
                and ``NAME_panoptic.json`` (COCO's format, see :meth:`to_coco`) are written, and of
                a model with depth ``NAME_depth.png`` (16 bits, meters times 256).
            name: instead of :attr:`name`.

        Returns:
            The paths of the files. What stood there before is replaced.

        Raises:
            ValueError: if the image itself would be written over, or the name leads out of the
                folder.
        """
        path = os.fspath(path)
        if path.lower().endswith(IMAGE_ENDINGS):
            self._check([path])
            _save_image(path, self.overlay(legend=True))
            return [path]
        stem = self.name if name is None else name
        check_output_name(stem, stem)
        parts = ("overlay.png", "panoptic.png", "panoptic.json", "depth.png")
        paths = [os.path.join(path, f"{stem}_{part}") for part in parts]
        paths = paths[:3] if self.depth is None else paths
        self._check(paths)
        _save_image(paths[0], self.overlay(legend=True))
        write_panoptic_png(paths[1], self.panoptic)
        write_json(paths[2], self._coco_json(os.path.basename(paths[1])))
        if self.depth is not None:
            write_depth_png(paths[3], self.depth)
        return paths

    def _check(self, outputs: List[str]) -> None:
        check_not_inputs(outputs, [self.file_name] if self.file_name else [])

    def _coco_json(self, png: str) -> Dict[str, Any]:
        height, width = self.panoptic.shape
        annotation, _ = self.to_coco()
        image = {"id": 1, "file_name": self.file_name, "height": height, "width": width}
        return {
            "images": [image],
            "annotations": [{**annotation, "file_name": png}],
            "categories": list(self.palette.categories),
        }

    @staticmethod
    def _info(segment: Segment) -> Dict[str, Any]:
        return {
            "id": segment.id,
            "category_id": segment.class_id,
            "isthing": segment.is_thing,
            "score": segment.score,
        }


def result_of_output(
    image: NamedImage,
    output: Mapping[str, Any],
    palette: Palette,
    *,
    name: str,
    confidence: float = 0.0,
    keeps_scores: bool = False,
) -> Result:
    """
    Args:
        image: that the model has seen.
        output: of the model, with ``panoptic_seg`` or ``sem_seg``; ``sem_seg_labels`` for the
            latter is enough beside the former.
        palette: of the dataset that the model was trained on.
        name: where the image has none.
        confidence: segments and instances of a lower score are left out; their pixels are void.
        keeps_scores: whether the result has ``semantic_scores``.
    """
    segment_map, infos = hide_uncertain(panoptic_of_output(output), confidence)
    panoptic = segment_map.cpu().numpy().astype(np.int32, copy=False)
    measured = boxes_of_segments(panoptic, [int(info["id"]) for info in infos])
    segments = tuple(_segment(info, palette, *found) for info, found in zip(infos, measured))
    if has_semantic(output):
        semantic = semantic_labels_of(output).cpu().numpy().astype(np.int32)
    else:
        semantic = _semantic_of(panoptic, segments)
    scores = output.get("sem_seg") if keeps_scores else None
    instances = output.get("instances")
    if instances is not None:
        instances = instances[instances.scores >= confidence].to("cpu")
    depth = output.get("depth")
    return Result(
        name=image.stem or name,
        file_name=image.file_name,
        image=image.bytes,
        panoptic=panoptic,
        segments=segments,
        semantic=semantic,
        semantic_scores=None if scores is None else scores.float().cpu().numpy(),
        instances=instances,
        depth=None if depth is None else depth.float().cpu().numpy(),
        palette=palette,
    )


def _segment(info: Mapping[str, Any], palette: Palette, area: int, box: Box) -> Segment:
    """Of Detectron2's ``segments_info``."""
    k, score = int(info["category_id"]), info.get("score")
    return Segment(
        id=int(info["id"]),
        name=palette.name(k),
        class_id=k,
        category_id=int(palette.category(k)["id"]),
        is_thing=bool(info["isthing"]),
        score=None if score is None else float(score),
        area=area,
        box=box,
    )


def _semantic_of(panoptic: np.ndarray, segments: Tuple[Segment, ...]) -> np.ndarray:
    semantic = np.full(panoptic.shape, -1, np.int32)
    for segment in segments:
        semantic[panoptic == segment.id] = segment.class_id
    return semantic


def _save_image(path: str, picture: Image.Image) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary)
