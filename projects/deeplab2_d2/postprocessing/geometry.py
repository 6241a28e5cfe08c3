"""The frames between the heads' maps and the original image, as one affine map per axis."""

from dataclasses import dataclass
from typing import NamedTuple, Tuple

import numpy as np
from torch import Tensor

Size = Tuple[int, int]
Scale = Tuple[float, float]


def _ratio(numerator: int, denominator: int, if_undefined: float) -> float:
    """A quotient of integers, rounded once to float32."""
    return float(np.float32(numerator / denominator)) if denominator else if_undefined


class Frames(NamedTuple):
    """
    The frames that an image goes through, whatever the resolution of the maps.

    Attributes:
        input_size: (H, W) of the padded network input, which the heads' maps cover.
        image_size: (H, W) of the image within the network input, at its upper left.
        output_size: (H, W) of the original image.
    """

    input_size: Size
    image_size: Size
    output_size: Size

    @classmethod
    def unpadded(cls, size: Size) -> "Frames":
        """Where input, image and output are one."""
        return cls(size, size, size)

    def geometry(self, maps: Tensor) -> "FrameGeometry":
        """With the frame of maps, (..., h, w)."""
        return FrameGeometry((int(maps.shape[-2]), int(maps.shape[-1])), *self)


@dataclass(frozen=True)
class FrameGeometry:
    """
    Four frames, each with the corners of its pixel grid aligned to the one before.

    The heads' map covers the padded network input; the image is its upper left part (the padding is
    below and to the right); the output is the image at its original size. Resizing the map to the
    input, cropping and resizing to the output is one affine map per axis, so that values are
    interpolated once:
    ``y_map = y_output * (H_image - 1) / (H_output - 1) * (H_map - 1) / (H_input - 1)``.

    Every scale is exact in float32. Where all three later frames have one size it is the very
    number that DeepLab2 resizes with.

    Attributes:
        map_size: (h, w) of the heads' maps.
        input_size: (H, W) of the padded network input.
        image_size: (H, W) of the image within the input.
        output_size: (H, W) of the output.
    """

    map_size: Size
    input_size: Size
    image_size: Size
    output_size: Size

    def __post_init__(self) -> None:
        for name in ("map_size", "input_size", "image_size", "output_size"):
            size = getattr(self, name)
            if len(size) != 2 or min(size) < 1:
                raise ValueError(f"{name} must be (height, width), both positive, got {size}")
        if any(image > padded for image, padded in zip(self.image_size, self.input_size)):
            raise ValueError(
                f"image_size must lie within input_size {self.input_size}, got {self.image_size}"
            )

    def _scale(self, output_size: Size) -> Scale:
        """Map pixels per pixel of an output of this size that shows the image."""
        scales = [
            _ratio((image - 1) * (low - 1), (output - 1) * (padded - 1), if_undefined=0.0)
            for low, padded, image, output in zip(
                self.map_size, self.input_size, self.image_size, output_size
            )
        ]
        return scales[0], scales[1]

    @property
    def output_to_map(self) -> Scale:
        """Map pixels per output pixel; 0 along an axis of a single output pixel."""
        return self._scale(self.output_size)

    @property
    def image_to_map(self) -> Scale:
        """Map pixels per pixel of the network input."""
        return self._scale(self.image_size)

    @property
    def map_to_output(self) -> Scale:
        """Output pixels per map pixel, for offsets; 1 along an axis of a single pixel."""
        scales = [
            _ratio((output - 1) * (padded - 1), (image - 1) * (low - 1), if_undefined=1.0)
            for low, padded, image, output in zip(
                self.map_size, self.input_size, self.image_size, self.output_size
            )
        ]
        return scales[0], scales[1]

    @property
    def image_to_output(self) -> Scale:
        """Output pixels per pixel of the network input, for centers; 1 if the image is a pixel."""
        scales = [
            _ratio(output - 1, image - 1, if_undefined=1.0)
            for image, output in zip(self.image_size, self.output_size)
        ]
        return scales[0], scales[1]
