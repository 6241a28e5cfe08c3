"""torchvision's classification networks, cut where their strides change."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .geometry import find_grid
from .meta import without_numbers
from .network import FEATURE_NAMES, REFUSALS, Grid, LibraryNetwork, Shapes
from .pixels import IMAGENET_MEAN, IMAGENET_STD

_NODE = "MODEL.DEEPLAB2.TORCHVISION."
_STRIDE_KEY = "MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE"
# What makes a network atrous: ResNets', MobileNetV3's.
_ATROUS: Dict[int, Tuple[Dict[str, Any], ...]] = {
    32: ({},),
    16: ({"replace_stride_with_dilation": [False, False, True]}, {"dilated": True}),
    8: ({"replace_stride_with_dilation": [False, True, True]},),
}
# Sides that tell maps whose channels are last from others.
_SIZE = (224, 320)


class _Cut(nn.Module):
    """
    A network up to the last of some modules, whose outputs are returned.

    Its modules run in the order in which the network has them, as torchvision's networks with
    features of strides 4 to 32 do; not by a traced graph, which cannot be copied.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]):
        """
        Args:
            network: loses what comes behind the last.
            names: in its order, of children of its sequences ("layer1.1") and of other children.
        """
        super().__init__()
        self.network, self.names = network, tuple(names)
        self.order: List[str] = []
        for name, child in list(network.named_children()):
            inner = child.named_children() if isinstance(child, nn.Sequential) else ()
            for step in [f"{name}.{key}" for key, _ in inner] or [name]:
                if self.order and self.order[-1] == names[-1]:
                    parent = network.get_submodule(step.rpartition(".")[0])
                    delattr(parent, step.rpartition(".")[2])
                    continue
                self.order.append(step)

    def forward(self, images: Tensor) -> List[Tensor]:
        found, features = {}, images
        for name in self.order:
            features = self.network.get_submodule(name)(features)
            if name in self.names:
                found[name] = features
        return [found[name] for name in self.names]


@dataclass(frozen=True)
class _Plan:
    """
    How a network is built.

    Attributes:
        options: for torchvision.
        modules: name of a feature to that of the module whose output it is.
        shapes: of each feature.
        grid: of the maps.
        is_channels_last: the maps are (N, H, W, C).
    """

    options: Mapping[str, Any]
    modules: Mapping[str, str]
    shapes: Mapping[str, ShapeSpec]
    grid: Grid
    is_channels_last: bool


def build_torchvision_network(
    name: str, *, output_stride: int, in_channels: int, out_features: Sequence[str] = ()
) -> LibraryNetwork:
    """
    A network of torchvision, with random weights.

    Args:
        name: of a classification network there.
        output_stride: of the last feature: 8, 16 or 32.
        in_channels: of the images: 3.
        out_features: of res1 to res5; none = all there are.

    Raises:
        ValueError: for a name that torchvision has not, a network without features of strides 4 to
            32, or not with this output stride; naming the network and what it offers.
    """
    names = _names()
    if name not in names:
        raise ValueError(f"config key {_NODE}NAME must be one of {names}, got {name!r}")
    if in_channels != 3:
        raise ValueError(
            f"config key MODEL.PIXEL_MEAN must have 3 values for torchvision's {name}, which takes "
            f"images alone, got {in_channels}"
        )
    plan = _plan(name, output_stride)
    unknown = [feature for feature in out_features if feature not in plan.modules]
    if unknown:
        raise ValueError(
            f"config key {_NODE}OUT_FEATURES must be of {list(plan.modules)} for torchvision's "
            f"{name}, got {unknown}"
        )
    kept = [feature for feature in plan.modules if feature in (out_features or plan.modules)]
    body = _Cut(_create(name, plan.options), [plan.modules[feature] for feature in kept])
    return LibraryNetwork(
        body=body,
        shapes={feature: plan.shapes[feature] for feature in kept},
        grid=plan.grid,
        is_channels_last=plan.is_channels_last,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        title=f"torchvision's {name}",
        all_shapes=partial(_all_shapes, name),
    )


def _names() -> List[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _create(name: str, options: Mapping[str, Any]) -> nn.Module:
    import torchvision

    try:
        return torchvision.models.get_model(name, weights=None, **options)
    except NotImplementedError:
        # RegNets compute their widths by tensors, which have no numbers on the meta device.
        with torch.device("cpu"):
            network = torchvision.models.get_model(name, weights=None, **options)
        return network.to("meta")


def _all_shapes(name: str) -> Shapes:
    with without_numbers():
        network = _create(name, {})
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@lru_cache(maxsize=32)
def _plan(name: str, output_stride: int) -> _Plan:
    modules, is_channels_last = _find_modules(name)
    strides = {feature: stride for stride, feature in FEATURE_NAMES.items() if feature in modules}
    wanted = [min(stride, output_stride) for stride in strides.values()]
    found: Any = None
    for options in _ATROUS[output_stride]:
        try:
            with without_numbers():
                body = _Cut(_create(name, options), list(modules.values())).eval()
        except REFUSALS:
            continue
        layout: Dict[str, Any] = {"is_channels_last": is_channels_last, "in_channels": 3}
        grid = find_grid(body, wanted, **layout)
        if grid is not None:
            found = options, grid, body
            break
    if found is None:
        raise ValueError(
            f"config key {_STRIDE_KEY} must be another for torchvision's {name}, with features of "
            f"strides {list(strides.values())} at 32 and no such ones at {output_stride}"
        )
    options, grid, body = found
    channel_axis = 3 if is_channels_last else 1
    side = max(grid.divisor, 64)
    with torch.device("meta"), torch.no_grad():
        maps = body(torch.zeros(1, 3, side, side))
    shapes = {
        feature: ShapeSpec(channels=int(features.shape[channel_axis]), stride=stride)
        for feature, stride, features in zip(modules, wanted, maps)
    }
    return _Plan(options, modules, shapes, grid, is_channels_last)


def _find_modules(name: str) -> Tuple[Dict[str, str], bool]:
    """The last module at each stride, and whether their maps have the channels last."""
    with without_numbers():
        network = _create(name, {}).eval()
    outputs: List[Tuple[str, Tuple[int, ...]]] = []

    def keep(module_name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            outputs.append((module_name, tuple(output.shape)))

    for child_name, child in network.named_children():
        inner = child.named_children() if isinstance(child, nn.Sequential) else ()
        steps = [(f"{child_name}.{key}", module) for key, module in inner]
        for step, module in steps or [(child_name, child)]:
            module.register_forward_hook(partial(keep, step))
    try:
        with torch.device("meta"), torch.no_grad():
            network(torch.zeros(1, 3, *_SIZE))
    except REFUSALS as error:
        raise ValueError(
            f"config key {_NODE}NAME must be of a network that takes images of any size, got "
            f"torchvision's {name}"
        ) from error
    for start in (2, 1):
        modules = {
            feature: module_name
            for stride, feature in FEATURE_NAMES.items()
            for module_name, shape in outputs
            if all(n * stride == side for n, side in zip(shape[start : start + 2], _SIZE))
        }
        if {"res2", "res3", "res4", "res5"} <= set(modules):
            return modules, start == 1
    raise ValueError(
        f"config key {_NODE}NAME must be of a network with features of strides 4, 8, 16 and 32, "
        f"got torchvision's {name}"
    )
