"""Predictions averaged over scales, flips and models."""

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..layers import ASPPPool, resize_align_corners
from ..meta_arch import PanopticSegmenter
from ..structures import PanopticDeepLabPrediction


class AveragedPrediction(NamedTuple):
    """
    Means over all views, at the size of the network's input.

    Attributes:
        semantic_logits: (N, C, H, W) float32, mean of the logits.
        semantic_probabilities: (N, C, H, W) float32, mean of the softmaxes.
        center_heatmap: (N, 1, H, W) float32; None for semantic-only models.
        center_offsets: (N, 2, H, W) float32 ``(dy, dx)``, in pixels of the network's input; None
            likewise.
    """

    semantic_logits: Tensor
    semantic_probabilities: Tensor
    center_heatmap: Optional[Tensor]
    center_offsets: Optional[Tensor]


def scale_grid(size: Sequence[int], scale: float) -> Tuple[int, int]:
    """A (height, width) whose corners stay corners: ``(side - 1) * scale + 1``, rounded down."""
    height, width = (int((side - 1) * scale + 1) for side in size)
    return height, width


@torch.no_grad()
def average_views(
    models: Sequence[PanopticSegmenter],
    images: Tensor,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> AveragedPrediction:
    """
    Mean prediction over models, scales and horizontal flips, as DeepLab2 averages.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 4 ("flip", "MS").

    Args:
        models: with the same classes.
        images: (N, 3, H, W), normalised and padded.
        scales: factors on the image's size; the ASPP's pooling window follows.
        flip: add the mirrored image at every scale.

    Raises:
        ValueError: if there is no model or no scale.
    """
    if not models or not scales:
        raise ValueError("average_views: models and scales must not be empty")
    size = (int(images.shape[-2]), int(images.shape[-1]))
    totals: List[Optional[Tensor]] = [None] * 4
    count = 0
    for view, is_flipped, scale in image_views(images, scales, flip):
        for model in models:
            with scaled_pooling(model, scale):
                maps = _full_size_maps(model.predict(view), size, is_flipped)
            totals = [_add(total, new) for total, new in zip(totals, maps)]
            count += 1
    logits, probabilities, heatmap, offsets = (
        None if total is None else total / count for total in totals
    )
    assert logits is not None and probabilities is not None
    return AveragedPrediction(logits, probabilities, heatmap, offsets)


def image_views(
    images: Tensor, scales: Sequence[float], flip: bool
) -> Iterator[Tuple[Tensor, bool, float]]:
    """Each scaled (and mirrored) batch of images, whether it is mirrored, and its scale."""
    for scale in scales:
        view = images
        if scale != 1.0:
            view = resize_align_corners(images, scale_grid(images.shape[-2:], scale))
        yield view, False, scale
        if flip:
            yield view.flip(3), True, scale


def _add(total: Optional[Tensor], new: Optional[Tensor]) -> Optional[Tensor]:
    return new if total is None or new is None else total + new


@contextlib.contextmanager
def scaled_pooling(model: nn.Module, scale: float) -> Iterator[None]:
    """The tiled window of every ASPP covers the same part of the scaled image."""
    pools = [module for module in model.modules() if isinstance(module, ASPPPool)]
    kept = [pool.pool_size for pool in pools]
    try:
        for pool in pools:
            if pool.pool_size is not None:
                pool.pool_size = scale_grid(pool.pool_size, scale)
        yield
    finally:
        for pool, pool_size in zip(pools, kept):
            pool.pool_size = pool_size


def _full_size_maps(
    prediction: PanopticDeepLabPrediction, size: Tuple[int, int], is_flipped: bool
) -> List[Optional[Tensor]]:
    def restore(maps: Tensor) -> Tensor:
        return resize_align_corners(maps.float().flip(3) if is_flipped else maps.float(), size)

    logits = restore(prediction.semantic_logits)
    maps: List[Optional[Tensor]] = [logits, F.softmax(logits, dim=1), None, None]
    if prediction.center_heatmap is None or prediction.center_offsets is None:
        return maps
    source = prediction.center_offsets.shape[-2:]
    ratios = [(size[k] - 1) / max(source[k] - 1, 1) for k in range(2)]
    if is_flipped:
        ratios[1] = -ratios[1]
    maps[2] = restore(prediction.center_heatmap)
    factor = torch.tensor(ratios, dtype=torch.float32, device=logits.device)
    maps[3] = restore(prediction.center_offsets) * factor[:, None, None]
    return maps


class AveragedSegmenter(nn.Module):
    """
    A model for evaluation whose predictions are averaged over views and models.

    Takes and returns what :class:`PanopticSegmenter` does in evaluation.
    """

    def __init__(
        self,
        models: Sequence[PanopticSegmenter],
        *,
        scales: Sequence[float] = (1.0,),
        min_sizes: Sequence[int] = (),
        max_size: int = 0,
        flip: bool = False,
    ):
        """
        Args:
            models: the first one's input and post-processing settings are used.
            scales: factors on the image's size.
            min_sizes: instead of ``scales``, lengths of the image's shorter side in each view.
            max_size: with ``min_sizes``, bound on the longer side; 0 = none.
            flip: add mirrored views.
        """
        super().__init__()
        self.first = models[0]
        self.others = nn.ModuleList(models[1:])
        self.scales = tuple(scales)
        self.min_sizes = tuple(min_sizes)
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode, models: Sequence[PanopticSegmenter]) -> "AveragedSegmenter":
        """As TEST.AUG and TEST.DEEPLAB2.SCALES say; no augmentation where it is not ENABLED."""
        aug, scales = cfg.TEST.AUG, cfg.TEST.DEEPLAB2.SCALES
        if not aug.ENABLED:
            return cls(models)
        return cls(
            models,
            scales=scales or (1.0,),
            min_sizes=() if scales else aug.MIN_SIZES,
            max_size=aug.MAX_SIZE,
            flip=aug.FLIP,
        )

    def forward(self, batched_inputs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        # One image at a time: the views of a batch would have different sizes.
        return [self._predict_one(sample) for sample in batched_inputs]

    def _predict_one(self, sample: Dict[str, Any]) -> Dict[str, Any]:
        images = self.first.batch([sample["image"]])
        others = [cast(PanopticSegmenter, model) for model in self.others]
        prediction = self._average(
            [self.first, *others], images.tensor, self._scales_of(images.image_sizes[0])
        )
        return self.first.postprocess(prediction, images, [sample])[0]

    def _average(
        self, models: Sequence[PanopticSegmenter], images: Tensor, scales: Sequence[float]
    ) -> Any:
        """The mean prediction, as the models' post-processing takes it."""
        raise NotImplementedError

    def _scales_of(self, size: Tuple[int, int]) -> Tuple[float, ...]:
        if not self.min_sizes:
            return self.scales
        shorter, longer = min(size), max(size)
        scales = [min_size / shorter for min_size in self.min_sizes]
        if self.max_size:
            scales = [min(scale, self.max_size / longer) for scale in scales]
        return tuple(scales)


class AveragedPanopticDeepLab(AveragedSegmenter):
    """Panoptic-DeepLab's maps averaged at the size of the network's input."""

    def _average(
        self, models: Sequence[PanopticSegmenter], images: Tensor, scales: Sequence[float]
    ) -> PanopticDeepLabPrediction:
        averaged = average_views(models, images, scales=scales, flip=self.flip)
        return PanopticDeepLabPrediction(
            to_log(averaged.semantic_probabilities),
            averaged.center_heatmap,
            averaged.center_offsets,
        )


def to_log(probabilities: Tensor) -> Tensor:
    """Log-probabilities, of which the softmax gives the probabilities back."""
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()
