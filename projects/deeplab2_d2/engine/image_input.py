"""Images as Python programs have them: paths, PIL's, arrays, tensors."""

import os
from typing import Any, NamedTuple, Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.reading import read_image
from ..structures import stem_of, turn_upright

ImageSource = Union[str, "os.PathLike[str]", Image.Image, np.ndarray, Tensor]


class NamedImage(NamedTuple):
    """
    An image for a model.

    Attributes:
        pixels: (H, W, 3) RGB, 0 to 255, uint8 or (of files, which may have 16 bits) float32.
        file_name: of the file; "" where it has none.
    """

    pixels: np.ndarray
    file_name: str = ""

    @property
    def stem(self) -> str:
        """The file's name without folder and ending; "" where it has none."""
        return stem_of(self.file_name)

    @property
    def bytes(self) -> np.ndarray:
        """The pixels as uint8, a copy."""
        if self.pixels.dtype == np.uint8:
            return self.pixels.copy()
        return np.rint(self.pixels).astype(np.uint8)


def to_image(source: ImageSource) -> NamedImage:
    """
    Args:
        source: a path (any that Detectron2's ``PathManager`` opens) or a PIL image, both turned
            upright as their EXIF data say; an array, uint8, (H, W, 3) RGB or (H, W) gray; a tensor,
            uint8, (3, H, W) RGB or (1, H, W) gray, of any device.

    Raises:
        TypeError: if it is none of these.
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no image that can be read, or type or shape are others.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return NamedImage(read_image(path, "RGB"), path)
    if isinstance(source, Image.Image):
        return _from_pil(source)
    if isinstance(source, Tensor):
        return NamedImage(_from_tensor(source))
    if isinstance(source, np.ndarray):
        return NamedImage(_from_array(source))
    raise TypeError(
        "an image must be a path, a PIL image, a NumPy array or a torch tensor, or a list of such, "
        f"got a {type(source).__name__}"
    )


def _from_pil(image: Image.Image) -> NamedImage:
    path: Any = getattr(image, "filename", "")
    if image.mode.startswith(("I", "F")):
        # Pillow's own conversion cuts values above 255 off.
        raise ValueError(
            f"a PIL image must have 8 bits a channel, got mode {image.mode}; give its path, by "
            "which 16 bits are read, too"
        )
    pixels = np.asarray(turn_upright(image).convert("RGB"))
    return NamedImage(pixels, path if isinstance(path, str) else "")


def _from_array(array: np.ndarray) -> np.ndarray:
    is_gray = array.ndim == 2
    if not (is_gray or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        raise ValueError(
            f"an array must be (H, W, 3) RGB or (H, W) gray, got {array.shape}{_hint(array)}"
        )
    _check_bytes(array.dtype == np.uint8, "an array", array.dtype)
    return np.repeat(array[:, :, None], 3, axis=2) if is_gray else array


def _from_tensor(tensor: Tensor) -> np.ndarray:
    if tensor.dim() != 3 or tensor.shape[0] not in (1, 3) or 0 in tensor.shape:
        raise ValueError(
            "a tensor must be (3, H, W) RGB or (1, H, W) gray, got "
            f"{tuple(tensor.shape)}{_hint(tensor)}"
        )
    _check_bytes(tensor.dtype == torch.uint8, "a tensor", tensor.dtype)
    pixels = tensor.detach().expand(3, -1, -1).permute(1, 2, 0)
    return np.ascontiguousarray(pixels.cpu().numpy())


def _hint(array: Any) -> str:
    if array.ndim == 4:
        return "; give a batch as a list of images"
    if array.ndim == 3 and array.shape[-1] == 4:
        return "; leave alpha out: array[:, :, :3]"
    return ""


def _check_bytes(is_uint8: bool, what: str, dtype: Any) -> None:
    if not is_uint8:
        raise ValueError(
            f"{what} must be uint8, 0 to 255, got {dtype}; of floats from 0 to 1 it is "
            "(255 * x).round() as uint8"
        )
