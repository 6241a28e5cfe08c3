"""VGG-16 (arXiv:1409.1556) with atrous convolution, the trunk of DeepLab v1 and v2."""

from typing import Dict, List, Sequence, Tuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor

from ..layers import ConvNormAct, build_max_pool
from .endpoints import EndpointBackbone
from .family import BackboneFamily, SharedOptions, register_family
from .mobile_network import make_divisible

_DIVISOR = 8
_OUT_FEATURES = ("res2", "res3", "res4", "res5")

# (channels, convolutions) of the five groups; a pool follows each.
VGG_NETWORKS: Dict[str, Tuple[Tuple[int, int], ...]] = {
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
}


class VGGNetwork(EndpointBackbone):
    """
    VGG up to its last pool, without norms; every pool has 3x3 pixels, so that maps stay aligned.

    Reference: the files of DeepLab v1 (arXiv:1412.7062) and v2 (arXiv:1606.00915), which have an
    output stride of 8. The layers fc6 to fc8 belong to their heads.

    The endpoints are the images (``image``), which small classifiers of v1 read, and the pools,
    ``res1`` (stride 2) to ``res5``.
    """

    def __init__(
        self,
        *,
        specs: Sequence[Tuple[int, int]],
        in_channels: int = 3,
        output_stride: int = 8,
        width_multiplier: float = 1.0,
        rounds_up: bool = False,
        out_features: Sequence[str] = ("image", "res1", *_OUT_FEATURES),
    ):
        """
        Args:
            specs: a row of ``VGG_NETWORKS``.
            in_channels: of the images.
            output_stride: beyond this stride pools have none, and atrous rates replace it.
            width_multiplier: factor on channels, which are then rounded to multiples of 8.
            rounds_up: see :func:`build_max_pool`.
            out_features: endpoints that ``forward`` returns.
        """
        super().__init__()
        self.endpoint_shapes = {"image": ShapeSpec(channels=in_channels, stride=1)}
        self._groups: List[Tuple[str, ...]] = []
        current_stride, rate = 1, 1
        for group, (channels, num_convs) in enumerate(specs, start=1):
            channels = make_divisible(channels * width_multiplier, _DIVISOR)
            names = []
            for number in range(1, num_convs + 1):
                names.append(f"conv{group}_{number}")
                conv = ConvNormAct(in_channels, channels, 3, atrous_rate=rate, activation="relu")
                self.add_module(names[-1], conv)
                in_channels = channels
            stride = 1 if current_stride == output_stride else 2
            current_stride, rate = current_stride * stride, rate * 2 // stride
            names.append(f"pool{group}")
            self.add_module(names[-1], build_max_pool(stride, rounds_up=rounds_up))
            self._groups.append(tuple(names))
            shape = ShapeSpec(channels=channels, stride=current_stride)
            self.endpoint_shapes[f"res{group}"] = shape
        self.set_out_features(out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        features, endpoints = images, {"image": images}
        for number, names in enumerate(self._groups, start=1):
            for name in names:
                features = self.get_submodule(name)(features)
            endpoints[f"res{number}"] = features
        return endpoints


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    # Round the sizes of pooled maps up, as Caffe: differs where a side is even.
    node.CEIL_POOLING = False


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    value = node.CEIL_POOLING
    if not isinstance(value, bool):
        raise ValueError(f"config key {prefix}CEIL_POOLING must be a bool, got {value!r}")


def build(name: str, node: CfgNode, shared: SharedOptions) -> VGGNetwork:
    """A network of the family."""
    return VGGNetwork(
        specs=VGG_NETWORKS[name],
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
        width_multiplier=shared.width_multiplier,
        rounds_up=node.CEIL_POOLING,
    )


register_family(BackboneFamily("VGG", tuple(VGG_NETWORKS), add_config, check_config, build))
