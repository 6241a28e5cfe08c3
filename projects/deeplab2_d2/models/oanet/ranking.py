"""The spatial ranking module: which instances lie on top, from masks and classes alone."""

from typing import Any, Dict, Iterator, Protocol, Sequence, Tuple, Union

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn

Size = Tuple[int, int]


class RankingHead(Protocol):
    """
    What the registry's modules have.

    Attributes:
        num_classes: things, the channels of a call's (N, C, h, w).
        stride: of the tensor of instances to the network's input.
    """

    num_classes: int
    stride: int

    def __call__(self, drawn: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As a module has them."""
        ...


DEEPLAB2_RANKING_HEADS_REGISTRY = Registry("DEEPLAB2_RANKING_HEADS")
DEEPLAB2_RANKING_HEADS_REGISTRY.__doc__ = """
Modules that are a :class:`RankingHead`: from tensors of instances (N, C, h, w), see
:func:`draw_instances`, to ranking logits of the same shape. Built as ``(cfg)``.
"""


def build_ranking_head(cfg: CfgNode) -> RankingHead:
    """The module that MODEL.DEEPLAB2.OANET.RANKING.MODULE names."""
    return DEEPLAB2_RANKING_HEADS_REGISTRY.get(cfg.MODEL.DEEPLAB2.OANET.RANKING.MODULE)(cfg)


@DEEPLAB2_RANKING_HEADS_REGISTRY.register()
class DeepLab2SpatialRankingHead(nn.Module):
    """
    Linear convolutions from the tensor of instances to a ranking score map.

    Reference: OANet (arXiv:1903.05027), Sec. 3.2, Table 5. The paper writes "1 x 7 + 7 x 1" of its
    large kernel; both readings are here.

    Attributes:
        num_classes: things.
        stride: of the tensor, to the network's input.
    """

    @configurable
    def __init__(
        self, *, num_classes: int, kernel_size: int = 7, layout: str = "sequence", stride: int = 1
    ):
        """
        Args:
            num_classes: things.
            kernel_size: k, odd.
            layout: "square": one k x k; "sequence": 1 x k, then k x 1; "branches": that and k x 1,
                then 1 x k, summed (Global Convolutional Network, arXiv:1703.02719, Fig. 3).
            stride: see the class.
        """
        super().__init__()
        self.num_classes, self.stride = num_classes, stride
        row, column = (1, kernel_size), (kernel_size, 1)
        layouts: Dict[str, Sequence[Sequence[Size]]] = {
            "square": [[(kernel_size, kernel_size)]],
            "sequence": [[row, column]],
            "branches": [[row, column], [column, row]],
        }
        if layout not in layouts or kernel_size % 2 == 0:
            raise ValueError(
                f"layout must be one of {', '.join(layouts)} and kernel_size odd, "
                f"got {layout!r} and {kernel_size}"
            )
        self.branches = nn.ModuleList(
            nn.Sequential(*(_convolution(num_classes, kernel) for kernel in kernels))
            for kernels in layouts[layout]
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        node = cfg.MODEL.DEEPLAB2.OANET.RANKING
        return {
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "kernel_size": node.KERNEL,
            "layout": node.LAYOUT,
            "stride": node.STRIDE,
        }

    def forward(self, drawn: Tensor) -> Tensor:
        """
        Args:
            drawn: (N, C, h, w), see :func:`draw_instances`.

        Returns:
            (N, C, h, w) logits of the class on top.
        """
        return torch.stack([branch(drawn) for branch in self.branches]).sum(dim=0)


def _convolution(channels: int, kernel: Size) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    convolution = nn.Conv2d(channels, channels, kernel, padding=padding)
    # No activation follows.
    weight_init.c2_xavier_fill(convolution)
    return convolution


def rank_instances(masks: Tensor, classes: Tensor, head: RankingHead, input_size: Size) -> Tensor:
    """
    The ranking score of each instance of an image, from any model's masks and classes.

    Reference: OANet (arXiv:1903.05027), Eq. 3, the mean over an instance of the probability that
    its class is on top. Eq. 4 prints the mask the other way round (1 outside of the instance).

    Instances of one class share a channel, so the scores tell them apart only by where they lie.

    Args:
        masks: (N, H, W), bool, or float in [0, 1]; such as ``pred_masks`` of ``Instances``.
        classes: (N,) int64, places of the classes among the things.
        head: of :data:`DEEPLAB2_RANKING_HEADS_REGISTRY`.
        input_size: (height, width) of the network's input without padding, where masks are drawn
            at (the frame that the head was trained in); any size of masks is resized to it.

    Returns:
        (N,) float32 in [0, 1], without gradient; 0 of an empty mask.

    Raises:
        ValueError: if shapes differ, or a class is none of the head's.
    """
    if masks.dim() != 3 or classes.shape != masks.shape[:1]:
        raise ValueError(
            "rank_instances: masks must be (N, H, W) and classes (N,), got "
            f"{tuple(masks.shape)} and {tuple(classes.shape)}"
        )
    if len(masks) == 0 or 0 in masks.shape:
        return torch.zeros(len(masks), device=masks.device)
    _check_classes(classes, head.num_classes)
    with torch.no_grad():
        resized = resize_masks(masks, input_size, head.stride)
        drawn = draw_instances(resized, classes, head.num_classes)
        probability = head(drawn[None])[0].float().softmax(dim=0)
        # One instance after the other: all at once would be N maps of floats.
        scores = [
            (probability[k] * mask).sum() / mask.float().sum().clamp(min=1e-6)
            for mask, k in zip(resized, classes.tolist())
        ]
        return torch.stack(scores)


def resize_masks(masks: Tensor, input_size: Size, stride: int = 1) -> Tensor:
    """
    Args:
        masks: (N, H, W) bool, or float in [0, 1].
        input_size: (height, width) of the network's input.
        stride: of the result to it.

    Returns:
        (N, ceil(height / stride), ceil(width / stride)). At stride 1 of the dtype given, by the
        nearest pixel; at others soft, float32, the mean of the pixels that a cell covers.
    """
    height, width = (-(-side // stride) for side in input_size)
    if tuple(masks.shape[1:]) == (height, width):
        return masks
    if stride == 1:
        values = masks.byte() if masks.dtype == torch.bool else masks
        resized = F.interpolate(values[:, None], (height, width), mode="nearest-exact")
        return resized[:, 0].to(masks.dtype)
    # One after the other: N maps of floats would be large.
    soft = [F.adaptive_avg_pool2d(mask[None].float(), (height, width)) for mask in masks]
    return torch.cat(soft) if soft else masks.new_zeros((0, height, width), dtype=torch.float32)


def draw_instances(masks: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """
    The tensor of instances: each mask on the channel of its class.

    Reference: OANet (arXiv:1903.05027), Sec. 3.2, Fig. 4.

    Args:
        masks: (N, h, w) bool, or float in [0, 1].
        classes: (N,) int64.
        num_classes: channels.

    Returns:
        (num_classes, h, w) float32, without gradient: 0 where there is no instance of a class, else
        the largest value of those that there are.
    """
    drawn = torch.zeros(num_classes, *masks.shape[1:], device=masks.device)
    for mask, k in zip(masks.detach(), classes.tolist()):
        torch.maximum(drawn[k], mask.float(), out=drawn[k])
    return drawn


def find_conflicts(masks: Tensor, classes: Tensor, rule: str) -> Tensor:
    """
    The pixels that ranking is learned at.

    Args:
        masks: (N, h, w) bool, or float in [0, 1], where half or more counts.
        classes: (N,) int64.
        rule: "instances": pixels of at least two instances; "classes": of instances of at least two
            classes, where a map of classes can tell them apart; "all": of at least one.

    Returns:
        (h, w) bool.
    """
    covered = masks if masks.dtype == torch.bool else masks >= 0.5
    groups = torch.arange(len(classes), device=classes.device)
    if rule == "classes":
        groups = classes
    counts = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    for group in groups.unique():
        counts += covered[groups == group].any(dim=0)
    return counts >= (1 if rule == "all" else 2)


class RankingCriterion(nn.Module):
    """
    Cross-entropy of the ranking score map with the class on top, at conflicting pixels.

    Reference: OANet (arXiv:1903.05027), Eq. 2, Sec. 4.2 ("non-conflicting pixels ignored").
    Pixels where the panoptic truth has stuff, or nothing, are ignored as well: the map has channels
    of things alone.
    """

    def __init__(
        self, *, thing_ids: Sequence[int], conflicts: str = "instances", weight: float = 1.0
    ):
        """
        Args:
            thing_ids: contiguous classes of the things, in the order of the map's channels.
            conflicts: see :func:`find_conflicts`.
            weight: factor on the loss.
        """
        super().__init__()
        self.thing_ids, self.conflicts, self.weight = tuple(thing_ids), conflicts, weight

    def forward(
        self,
        head: RankingHead,
        instances: Sequence[Tuple[Tensor, Tensor]],
        semantic_maps: Sequence[Tensor],
    ) -> Tensor:
        """
        Args:
            head: of :data:`DEEPLAB2_RANKING_HEADS_REGISTRY`.
            instances: of each image, masks (N, H, W) and classes (N,), places among the things.
            semantic_maps: of each image (H, W) int64, classes of the panoptic truth.

        Returns:
            A scalar, the mean over all conflicting pixels of the batch; 0 if there is none.
        """
        # Keeps every parameter in the graph, whatever the images have.
        total = sum((parameter.sum() * 0.0 for parameter in head.parameters()), torch.zeros(()))
        num_pixels = 0
        for (masks, classes), semantic_map in zip(instances, semantic_maps):
            _check_classes(classes, head.num_classes)
            size = (int(semantic_map.shape[0]), int(semantic_map.shape[1]))
            resized = resize_masks(masks, size, head.stride)
            labels = self.thing_places(semantic_map, resized.shape[1:])
            is_learned = find_conflicts(resized, classes, self.conflicts) & (labels >= 0)
            count = int(is_learned.count_nonzero())
            if count == 0:
                continue
            logits = head(draw_instances(resized, classes, head.num_classes)[None])[0]
            num_pixels += count
            total = total + F.cross_entropy(
                logits[:, is_learned].t().float(), labels[is_learned], reduction="sum"
            )
        return self.weight * total / max(num_pixels, 1)

    def thing_places(self, semantic_map: Tensor, size: Union[Size, torch.Size]) -> Tensor:
        """(h, w) int64: the place of a pixel's class among the things, -1 of all others."""
        nearest = F.interpolate(semantic_map[None, None].float(), tuple(size), mode="nearest-exact")
        table = semantic_map.new_full((max([*self.thing_ids, 255]) + 2,), -1)
        places = torch.arange(len(self.thing_ids), device=table.device)
        table[torch.tensor(self.thing_ids, device=table.device)] = places
        # Larger labels (an ignore label) and negative ones meet the last entry.
        return table[nearest[0, 0].long().clamp(-1, len(table) - 1)]


def _check_classes(classes: Tensor, num_classes: int) -> None:
    wrong = classes[(classes < 0) | (classes >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"classes of instances must be places among {num_classes} things, got {int(wrong[0])}"
        )
