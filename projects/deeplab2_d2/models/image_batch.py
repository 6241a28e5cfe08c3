"""From a list of images to the network's padded batch."""

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from detectron2.modeling import Backbone
from torch import Tensor

from ..postprocessing import Frames

Size = Tuple[int, int]


class ImageBatch(NamedTuple):
    """
    Images stacked for the network.

    Attributes:
        tensor: (N, C, H, W) float32, normalised; padding is 0 (the mean pixel). H and W are
            1 + a multiple of the stride, or what the backbone asks for.
        image_sizes: (height, width) of each image before padding; images stand top left.
    """

    tensor: Tensor
    image_sizes: List[Size]

    @property
    def input_size(self) -> Size:
        """(H, W) of the padded batch."""
        return int(self.tensor.shape[-2]), int(self.tensor.shape[-1])

    def output_size(self, sample: Mapping[str, Any], index: int) -> Size:
        """(height, width) of an image's outputs: the sample's, or the image's own."""
        height, width = self.image_sizes[index]
        return int(sample.get("height", height)), int(sample.get("width", width))

    def frames(self, sample: Mapping[str, Any], index: int) -> Frames:
        """The frames of an image, from the network's input to its outputs."""
        size = self.output_size(sample, index)
        return Frames(self.input_size, self.image_sizes[index], size)


def neighbor_image(sample: Mapping[str, Any], name: str) -> Tensor:
    """
    The image of the frame beside a sample's, which stands for it where it has none.

    Args:
        sample: with ``image``, (C, h, w).
        name: of the entry of the other frame's image.

    Raises:
        ValueError: if the images differ in their size.
    """
    image: Tensor = sample["image"]
    neighbor: Tensor = sample.get(name, image)
    if neighbor.shape != image.shape:
        raise ValueError(
            f"sample of {sample.get('file_name', 'a frame')} must have {name!r} of the size of its "
            f"'image', {tuple(image.shape)}, got {tuple(neighbor.shape)}"
        )
    return neighbor


def next_grid_size(size: Size, stride: int) -> Size:
    """The smallest (height, width) that holds ``size`` and is 1 + a multiple of ``stride``."""
    height, width = (1 + -(-(side - 1) // stride) * stride for side in size)
    return height, width


def backbone_size(size: Size, stride: int, backbone: Backbone) -> Size:
    """
    The smallest (height, width) that holds ``size`` and that a backbone takes.

    That is 1 + a multiple of ``stride``, unless the backbone asks for sizes of its own, as
    Detectron2's feature pyramids (``size_divisibility``) and plain transformers do
    (``padding_constraints``, which also may ask for a square).
    """
    asked: Mapping[str, int] = getattr(backbone, "padding_constraints", {})
    # Detectron2's main spells it so.
    divisor = asked.get("size_divisiblity", asked.get("size_divisibility", 0))
    divisor = max(int(divisor), int(backbone.size_divisibility))
    side = int(asked.get("square_size", 0))
    if divisor <= 1 and side <= 0:
        return next_grid_size(size, stride)
    if side > 0:
        size = (max(side, *size),) * 2
    divisor = max(divisor, 1)
    height, width = (-(-length // divisor) * divisor for length in size)
    return height, width


def batch_images(
    images: Sequence[Tensor],
    *,
    pixel_mean: Tensor,
    pixel_std: Tensor,
    stride: int,
    pad_to: Size = (0, 0),
    backbone: Optional[Backbone] = None,
) -> ImageBatch:
    """
    Normalise images, pad them with the mean pixel to one common size and stack them.

    Args:
        images: (C, h, w) each, any number type, 0..255, sizes may differ.
        pixel_mean: (C, 1, 1).
        pixel_std: (C, 1, 1).
        stride: the network's output stride; sizes become 1 + a multiple of it.
        pad_to: least (height, width) of the result before that rule; (0, 0) = no more than needed.
        backbone: whose own wishes come before that rule, see :func:`backbone_size`.

    Raises:
        ValueError: if there is no image, or one is not (C, h, w) with h, w > 0.
    """
    if not images:
        raise ValueError("batch_images: images must hold at least one image, got none")
    channels = pixel_mean.shape[0]
    for image in images:
        if image.dim() != 3 or image.shape[0] != channels or 0 in image.shape:
            raise ValueError(
                f"batch_images: an image must be ({channels}, h, w), got {tuple(image.shape)}"
            )
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
    largest = (
        max(pad_to[0], *(height for height, _ in sizes)),
        max(pad_to[1], *(width for _, width in sizes)),
    )
    if backbone is None:
        height, width = next_grid_size(largest, stride)
    else:
        height, width = backbone_size(largest, stride, backbone)
    padded = []
    for image, (image_height, image_width) in zip(images, sizes):
        image = (image.to(pixel_mean) - pixel_mean) / pixel_std
        padded.append(F.pad(image, (0, width - image_width, 0, height - image_height)))
    return ImageBatch(torch.stack(padded), sizes)
