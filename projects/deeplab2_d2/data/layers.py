"""Further maps of a sample that go the way of its image: other frames, depth."""

from dataclasses import dataclass
from typing import Any, Dict, Literal, Sequence, Tuple

import numpy as np
import torch
from detectron2.data import transforms as T

from ..structures import read_depth_png
from .augmentation import AlignedResizeTransform
from .foreign_transforms import apply_to_image, apply_to_map
from .frame_targets import depth_target
from .reading import read_image
from .scale_and_crop import ResizeWindowTransform


@dataclass(frozen=True)
class Layer:
    """
    A map that is read beside the image and transformed as it is.

    Attributes:
        name: of its entry in the sample.
        file_keys: entries of the dataset dict that may name its file; the first that is there
            counts. So ``("previous_file_name", "file_name")`` is the frame itself where none
            comes before.
        kind: "image", (3, H, W) float32 as the image; "depth", (H, W) float32 in meters, 0 where
            unknown, of a 16-bit PNG of meters times 256.
    """

    name: str
    file_keys: Tuple[str, ...]
    kind: Literal["image", "depth"]

    def read(
        self,
        dataset_dict: Dict[str, Any],
        transforms: T.TransformList,
        *,
        size: Tuple[int, int],
        image_format: str,
    ) -> torch.Tensor:
        """
        Args:
            dataset_dict: one image, in Detectron2's format.
            transforms: what has been done to the image.
            size: (height, width) of the image on disk.
            image_format: see :func:`read_image`.

        Returns:
            The sample's entry.

        Raises:
            ValueError: if no entry names a file, or its size is not the image's.
        """
        found = [dataset_dict[key] for key in self.file_keys if dataset_dict.get(key)]
        if not found:
            raise ValueError(
                f"dataset dict of {dataset_dict['file_name']} must have one of {self.file_keys} "
                f"for {self.name!r}"
            )
        is_depth = self.kind == "depth"
        values = read_depth_png(found[0]) if is_depth else read_image(found[0], image_format)
        if values.shape[:2] != tuple(size):
            raise ValueError(
                f"{found[0]} must be of the size of {dataset_dict['file_name']}, {tuple(size)}, "
                f"got {values.shape[:2]}"
            )
        if is_depth:
            values = apply_to_map(transforms, values)
            return torch.from_numpy(depth_target(values, _scale(transforms.transforms)))
        values = apply_to_image(transforms, values)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _scale(transforms: Sequence[T.Transform]) -> float:
    """By which an image has been magnified."""
    scale = 1.0
    for transform in transforms:
        if isinstance(transform, T.TransformList):
            scale *= _scale(transform.transforms)
        elif isinstance(transform, (AlignedResizeTransform, ResizeWindowTransform)):
            (old, _), (new, _) = transform.old_size, transform.new_size
            scale *= (new - 1) / (old - 1) if old > 1 else 1.0
        elif isinstance(transform, T.ResizeTransform):
            scale *= transform.new_h / transform.h
        elif isinstance(transform, T.ExtentTransform):
            _, top, _, bottom = transform.src_rect
            scale *= transform.output_size[0] / (bottom - top)
    return scale
