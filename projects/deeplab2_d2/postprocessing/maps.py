"""What happens to maps of each kind where they are cropped, resized, mirrored."""

from typing import Mapping, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import resample_aligned
from ..structures import MapKind, Prediction
from .geometry import Frames, Size


def resize_map(maps: Tensor, kind: MapKind, size: Size) -> Tensor:
    """
    A map at another resolution of the same frame, bilinear with aligned corners.

    Args:
        maps: (N, C, h, w).
        kind: what is no map of pixels ("slot_logits") stays as it is.
        size: (height, width) of the result.

    Returns:
        (N, C, height, width). Offsets are in pixels of the result: corner pixels stay corner
        pixels, so an offset grows by ``(height - 1) / (h - 1)``, and of a single pixel not at all.
    """
    if kind == "slot_logits":
        return maps
    old = maps.shape[-2:]
    if tuple(old) != tuple(size):
        maps = F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
    if kind == "offset":
        ratios = [(new - 1) / (side - 1) if side > 1 else 1.0 for new, side in zip(size, old)]
        maps = maps * torch.tensor(ratios, dtype=maps.dtype, device=maps.device)[:, None, None]
    return maps


def flip_map(maps: Tensor, kind: MapKind) -> Tensor:
    """A map mirrored left and right, (N, C, h, w); the x of an offset changes its sign."""
    if kind == "slot_logits":
        return maps
    maps = maps.flip(3)
    if kind == "offset":
        maps = maps * torch.tensor([1.0, -1.0], dtype=maps.dtype, device=maps.device)[:, None, None]
    return maps


class View(NamedTuple):
    """
    How a network saw an image.

    Attributes:
        size: (height, width) of the maps that are wanted.
        is_flipped: the image was mirrored left and right.
        scale: factor on the image's size.
    """

    size: Size
    is_flipped: bool = False
    scale: float = 1.0


def restore_view(
    prediction: Mapping[str, Tensor], kinds: Mapping[str, MapKind], view: View
) -> Prediction:
    """
    A prediction on a view, in the frame of the image itself.

    Args:
        prediction: name to (N, C, h, w), or (N, K, C) of slots.
        kinds: of every name.
        view: what was predicted on.

    Returns:
        Name to float32. What looked nearer because it was magnified is as far as it is.
    """
    restored: Prediction = {}
    for name, values in prediction.items():
        kind = kinds[name]
        maps = values.float()
        maps = resize_map(flip_map(maps, kind) if view.is_flipped else maps, kind, view.size)
        restored[name] = maps * view.scale if kind == "depth" else maps
    return restored


def to_output(maps: Tensor, kind: MapKind, frames: Frames) -> Tensor:
    """
    A map in the frame of the output, interpolated once.

    Args:
        maps: (N, C, h, w) of any kind but "slot_logits", covering the network's input.
        kind: of the map.
        frames: of the image.

    Returns:
        (N, C, height, width). Offsets are in pixels of the output; depth is that of the image at
        its output's size: what was shrunk for the network is as near as it is.
    """
    geometry = frames.geometry(maps)
    resized = resample_aligned(maps, frames.output_size, geometry.output_to_map)
    if kind == "offset":
        factors = resized.new_tensor(geometry.map_to_output)
        return resized * factors[:, None, None]
    return resized / geometry.image_to_output[0] if kind == "depth" else resized


def crop_to_image(maps: Tensor, frames: Frames) -> Tensor:
    """
    The part of maps (..., h, w) that the image covers, whose last row and column may reach beyond.
    """
    sizes = zip(frames.image_size, frames.input_size, maps.shape[-2:])
    height, width = (
        -(-(image - 1) * (side - 1) // max(padded - 1, 1)) + 1 for image, padded, side in sizes
    )
    return maps[..., :height, :width]
