"""A network of another library under the contract of our families."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..endpoints import EndpointBackbone
from .names import adopt_by_name, adopt_by_order
from .pixels import PixelConversion, PixelFormat

# Name of each tensor of a state dict to its shape, in its order.
Shapes = Dict[str, Tuple[int, ...]]
# Of the features that our heads read, by their strides.
FEATURE_NAMES = {2: "res1", 4: "res2", 8: "res3", 16: "res4", 32: "res5"}
# What networks raise for an option or a size that they do not take.
REFUSALS = (TypeError, AssertionError, ValueError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Grid:
    """
    Where the maps of a network lie on its images.

    Attributes:
        divisor: sides of inputs are padded to multiples of it; 1 = the network takes any, and its
            maps are of ceil(size / stride).
        before: pixels of that padding that are above and on the left.
        ratio: (numerator, denominator) of the network's own size of an image to what it is given.
    """

    divisor: int = 1
    before: int = 0
    ratio: Tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class LibraryNetwork:
    """
    What a library gives.

    Attributes:
        body: images to a list of maps.
        shapes: name of each map, in their order, to its channels and stride.
        grid: of the maps.
        is_channels_last: the maps are (N, H, W, C).
        mean, std: that the network has learned with: RGB, of pixels from 0 to 1.
        title: for messages: "timm's resnet50".
        all_shapes: the state dict of the library's whole network, with its classifier.
        stage_parts, new_parts: see :class:`EndpointBackbone`, relative to ``body``.
    """

    body: nn.Module
    shapes: Mapping[str, ShapeSpec]
    grid: Grid
    is_channels_last: bool
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    title: str
    all_shapes: Callable[[], Shapes]
    stage_parts: Tuple[Tuple[str, ...], ...] = ()
    new_parts: Tuple[str, ...] = ()


class LibraryBackbone(EndpointBackbone):
    """
    A network of timm or torchvision.

    Endpoints are ``res1`` to ``res5``, what the network has at strides 2 to 32 (at an output stride
    below 32 by the names of those stages), each of ceil(size / stride).

    Where the network's own maps are of other sizes, the image is padded with zeros, the mean pixel:
    to the right and below where cells begin on multiples of the stride (HRNet), so that cell i of a
    map is at pixel i * stride, as everywhere here. Where a network cuts images into patches
    (ConvNeXt, Swin), a third of its stride is above and on the left, so that the middle of no cell
    is further than a fifth of it from there; images whose sides are multiples of its stride
    are left as they are, for Detectron2's feature pyramid.
    """

    def __init__(
        self, network: LibraryNetwork, *, pixels: PixelFormat, out_features: Sequence[str] = ()
    ):
        """
        Args:
            network: of a library.
            pixels: what images are when they come.
            out_features: endpoints that ``forward`` returns; none = res2 to res5.
        """
        super().__init__()
        self.body = network.body
        self.title, self.grid = network.title, network.grid
        self.is_channels_last = network.is_channels_last
        self.pixels = PixelConversion(pixels, network.mean, network.std)
        self.stage_parts = tuple(
            tuple(f"body.{part}" for part in parts) for parts in network.stage_parts
        )
        self.new_parts = network.new_parts
        self.endpoint_shapes = dict(network.shapes)
        self._all_shapes = network.all_shapes
        self.set_out_features(out_features or [n for n in self.endpoint_shapes if n != "res1"])

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        height, width = images.shape[-2:]
        top, bottom = self._padding(height)
        left, right = self._padding(width)
        if top or bottom or left or right:
            images = F.pad(images, (left, right, top, bottom))
        images = self.pixels(images)
        numerator, denominator = self.grid.ratio
        if numerator != denominator:
            size = [int(n) * numerator // denominator for n in images.shape[-2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        found: Dict[str, Tensor] = {}
        for (name, shape), features in zip(self.endpoint_shapes.items(), self.body(images)):
            if self.is_channels_last:
                features = features.permute(0, 3, 1, 2).contiguous()
            stride = shape.stride
            assert stride is not None
            if self.grid.divisor > 1:
                features = features[
                    ...,
                    top // stride : top // stride + -(-height // stride),
                    left // stride : left // stride + -(-width // stride),
                ]
            found[name] = features
        return found

    def _padding(self, length: int) -> Tuple[int, int]:
        """Pixels before and behind a side of an image."""
        divisor = self.grid.divisor
        if divisor == 1 or length % divisor == 0:
            return 0, 0
        before = self.grid.before
        return before, -(length + before) % divisor

    def adopt_weights(self, weights: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
        """
        Weights of the library's network, with or without its classifier, under our names.

        Args:
            weights: the library's names to values; or another port's, in the library's order.

        Returns:
            Names of this backbone's state to values; None if they are of no such network.
        """
        state = self.state_dict()
        wanted = {
            name: tuple(value.shape)
            for name, value in state.items()
            if not any(part in name for part in self.new_parts)
        }
        return adopt_by_name(weights, wanted) or adopt_by_order(
            weights, wanted, self._all_shapes(), self.title
        )
