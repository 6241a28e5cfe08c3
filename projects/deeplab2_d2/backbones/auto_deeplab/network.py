"""The network: a stem, cells along the path, and ImageNet's head where it is kept."""

from collections import OrderedDict
from typing import Dict, List, Optional, Sequence, Tuple

import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers import Activation, ConvNormAct, Norm, drop_path_keep_prob, resize_align_corners
from ..endpoints import EndpointBackbone
from .cell import OPERATIONS, Cell
from .genotype import NUM_LEVELS, AutoDeepLabSpec, Genotype

LAST = "backbone_output"

# Strides of the head's convolutions, and their channels.
_HEAD = ((16, 512), (32, 1024))
_HEAD_CHANNELS = 2048


class AutoDeepLabNetwork(EndpointBackbone):
    """
    Auto-DeepLab. Endpoints ``res2`` ... ``res5`` are cells, of strides 4 to 32, not activated.

    They are, of each level, the last cell before the path comes to the coarsest one, and of that
    the last. ``backbone_output`` is the last cell, activated, of stride 8, or ImageNet's head.

    The output stride is that of the coarsest cells: where it is less than 32, cells keep the finer
    size, with the same rates ("Auto-DeepLab+", Panoptic-DeepLab, arXiv:1911.10194, Sec. B).
    """

    def __init__(
        self,
        *,
        spec: AutoDeepLabSpec,
        norm: Norm,
        in_channels: int = 3,
        output_stride: int = 32,
        width_multiplier: float = 1.0,
        out_features: Optional[Sequence[str]] = None,
    ):
        """
        Args:
            spec: a row of ``AUTO_DEEPLAB_NETWORKS``.
            in_channels: of the images (with what a video network appends to them).
            width_multiplier: factor on the filters, rounded; the stem and the head have their own.
            out_features: endpoints that ``forward`` returns; default: all.

        Raises:
            ValueError: for a path or a genotype that is none.
        """
        super().__init__()
        check_path(spec.path)
        check_genotype(spec.genotype)
        filters, stem = max(1, int(round(spec.filters * width_multiplier))), spec.stem_channels
        self.conv0 = ConvNormAct(in_channels, stem, 3, stride=2, norm=norm, activation="relu")
        # Its map is the second input of the first cell, not activated.
        self.conv1 = ConvNormAct(stem, stem, 3, norm=norm)
        self.conv2 = ConvNormAct(stem, 2 * stem, 3, stride=2, norm=norm)
        self._strides = [min(4 * 2**level, output_stride) for level in spec.path]
        self.cells = nn.ModuleList()
        channels, stride = [stem, 2 * stem], 4
        for number, (level, cell_stride) in enumerate(zip(spec.path, self._strides), start=1):
            keep_prob = drop_path_keep_prob(
                spec.keep_prob, "linear", stage=number, num_stages=len(spec.path)
            )
            cell = Cell(
                spec.genotype,
                (channels[-1], channels[-2]),
                filters * 2**level,
                stride=2 if cell_stride > stride else 1,
                norm=norm,
                keep_prob=keep_prob,
            )
            self.cells.append(cell)
            channels.append(cell.out_channels)
            stride = cell_stride
        self._endpoint_cells = find_endpoints(spec.path)
        self.endpoint_shapes = {
            name: ShapeSpec(channels=channels[2 + cell], stride=min(4 * 2**level, output_stride))
            for level, (name, cell) in enumerate(self._endpoint_cells.items())
        }
        self.head: Optional[nn.Sequential] = None
        if spec.has_head:
            self.head, channels[-1], stride = _build_head(channels[-1], stride, output_stride, norm)
        self.endpoint_shapes[LAST] = ShapeSpec(channels=channels[-1], stride=stride)
        self.set_out_features(list(self.endpoint_shapes) if out_features is None else out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        stem = self.conv1(self.conv0(images))
        outputs: List[Tensor] = [stem, self.conv2(F.relu(stem))]
        sizes: Dict[int, Tuple[int, int]] = {4: _size(outputs[-1])}
        before = 4
        for cell, stride in zip(self.cells, self._strides):
            current = outputs[-1]
            if stride < before:
                # Of an odd size n, that is from (n + 1) / 2 back to n.
                current = resize_align_corners(current, sizes[stride])
            outputs.append(cell(current, outputs[-2]))
            sizes.setdefault(stride, _size(outputs[-1]))
            before = stride
        endpoints = {name: outputs[2 + cell] for name, cell in self._endpoint_cells.items()}
        last = F.relu(outputs[-1])
        endpoints[LAST] = last if self.head is None else self.head(last)
        return endpoints


def _size(features: Tensor) -> Tuple[int, int]:
    return features.shape[-2], features.shape[-1]


def check_path(path: Sequence[int]) -> None:
    """
    Refuse a path that no network has.

    Raises:
        ValueError: unless it begins at level 0 or 1, goes by at most one level a cell and comes to
            the last level.
    """
    steps = [after - before for before, after in zip([0, *path], path)]
    is_path = all(0 <= level < NUM_LEVELS for level in path)
    if not is_path or any(abs(step) > 1 for step in steps) or NUM_LEVELS - 1 not in path:
        raise ValueError(
            f"a path must be levels of 0 to {NUM_LEVELS - 1}, from cell to cell by at most one, "
            f"from 0 to {NUM_LEVELS - 1}, got {list(path)}"
        )


def check_genotype(genotype: Genotype) -> None:
    """
    Refuse a genotype that no cell has.

    Raises:
        ValueError: unless it is pairs of entries, each of a state that is known by then and an
            operation.
    """
    known = all(
        isinstance(state, int) and 0 <= state < 2 + index // 2 and operation in OPERATIONS
        for index, (state, operation) in enumerate(genotype)
    )
    if not known or not genotype or len(genotype) % 2:
        raise ValueError(
            "a genotype must be pairs of (state, operation), of states before the pair and "
            f"operations of {tuple(OPERATIONS)}, got {list(genotype)}"
        )


def find_endpoints(path: Sequence[int]) -> Dict[str, int]:
    """Name of each endpoint among the cells to the cell's index; -1 is the stem."""
    coarsest = NUM_LEVELS - 1
    first = path.index(coarsest)
    cells = {}
    for level in range(NUM_LEVELS):
        until = len(path) if level == coarsest else first
        cells[f"res{level + 2}"] = max(
            (index for index in range(until) if path[index] == level), default=-1
        )
    return cells


def _build_head(
    channels: int, stride: int, output_stride: int, norm: Norm
) -> Tuple[nn.Sequential, int, int]:
    """Strided convolutions to stride 32 and a 1x1, and the channels and stride after them."""
    layers: Dict[str, nn.Module] = {}
    rate, reached = 1, stride
    for after, out_channels in _HEAD:
        if after <= stride:
            continue
        if reached < output_stride:
            step, reached = 2, after
        else:
            step, rate = 1, 2 * rate
        layers[f"downsample_os{after}"] = ConvNormAct(
            channels, out_channels, 3, stride=step, atrous_rate=rate, norm=norm
        )
        layers[f"activation_os{after}"] = Activation("relu")
        channels = out_channels
    layers["classification_head"] = ConvNormAct(channels, _HEAD_CHANNELS, 1, norm=norm)
    layers["activation"] = Activation("relu")
    return nn.Sequential(OrderedDict(layers)), _HEAD_CHANNELS, reached
