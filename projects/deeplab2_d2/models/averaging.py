"""Predictions averaged over scales, flips and models."""

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..layers import ASPPPool, resize_align_corners
from ..postprocessing import View, restore_view
from ..postprocessing.maps import resize_map
from ..records import Averaging
from ..structures import Prediction
from .parts import Sample
from .segmenter import Segmenter


class ViewMeans(NamedTuple):
    """
    Means over all views.

    Attributes:
        maps: name to the mean of the maps, float32; of an embedding the first view's.
        probabilities: name to the mean of the softmaxes, of what are logits.
    """

    maps: Prediction
    probabilities: Prediction

    def prediction(self) -> Prediction:
        """What post-processing takes: the means, logits as logarithms of mean probabilities."""
        logarithms = {name: to_log(mean) for name, mean in self.probabilities.items()}
        return {**self.maps, **logarithms}


def scale_grid(size: Sequence[int], scale: float) -> Tuple[int, int]:
    """A (height, width) whose corners stay corners: ``(side - 1) * scale + 1``, rounded down."""
    height, width = (int((side - 1) * scale + 1) for side in size)
    return height, width


@torch.no_grad()
def average_views(
    models: Sequence[Segmenter],
    images: Tensor,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    averaging: Averaging = Averaging(),
) -> ViewMeans:
    """
    Mean prediction over models, scales and horizontal flips, as DeepLab2 averages.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 4 ("flip", "MS").

    Args:
        models: with the same classes.
        images: (N, C, H, W), normalised and padded.
        scales: factors on the image's size; the ASPP's pooling window follows.
        flip: add the mirrored image at every scale.
        averaging: at which size, and how views are aligned.

    Raises:
        ValueError: if there is no model or no scale.
    """
    if not models or not scales:
        raise ValueError("average_views: models and scales must not be empty")
    size = (int(images.shape[-2]), int(images.shape[-1])) if averaging.at_input_size else None
    sums = _Sums(averaging)
    for view, is_flipped, scale in image_views(images, scales, flip):
        for model in models:
            with scaled_pooling(model, scale):
                prediction = model.predict(view)
            if size is None:
                size = _map_size(prediction)
            kinds = cast(Any, model.head).kinds
            if averaging.has_grid_of_image and scale < 1.0:
                prediction = _on_grid_of_image(prediction, kinds, view.shape, images.shape)
            sums.add(restore_view(prediction, kinds, View(size, is_flipped, scale)), kinds)
    return sums.means()


class _Sums:
    """Running sums of maps and of probabilities."""

    def __init__(self, averaging: Averaging):
        self._averaging = averaging
        self._maps: Prediction = {}
        self._probabilities: Prediction = {}
        self._first: Optional[Prediction] = None
        self._embeddings: Prediction = {}
        self._count = 0

    def add(self, maps: Prediction, kinds: Dict[str, Any]) -> None:
        embeddings = {name: m for name, m in maps.items() if kinds[name] == "embedding"}
        maps = {name: m for name, m in maps.items() if name not in embeddings}
        dims = {"logits": 1, "slot_logits": 2}
        probabilities = {
            name: m.softmax(dims[kinds[name]]) for name, m in maps.items() if kinds[name] in dims
        }
        if self._averaging.align is not None:
            # Their own order is another in each view, so only probabilities have a mean.
            maps = {name: m for name, m in maps.items() if name not in probabilities}
            if self._first is not None:
                probabilities = self._averaging.align(self._first, probabilities)
        if self._first is None:
            self._first, self._embeddings = probabilities, embeddings
        self._maps = _add(self._maps, maps)
        self._probabilities = _add(self._probabilities, probabilities)
        self._count += 1

    def means(self) -> ViewMeans:
        maps = {name: total / self._count for name, total in self._maps.items()}
        return ViewMeans(
            {**maps, **self._embeddings},
            {name: total / self._count for name, total in self._probabilities.items()},
        )


def _add(totals: Prediction, new: Prediction) -> Prediction:
    if not totals:
        return new
    return {name: total + new[name] for name, total in totals.items()}


def _on_grid_of_image(
    prediction: Prediction, kinds: Dict[str, Any], view: Sequence[int], image: Sequence[int]
) -> Prediction:
    """Maps of a view (N, C, h, w), at the stride that they have, on the grid of the image."""
    enlarged: Prediction = {}
    for name, maps in prediction.items():
        height, width = (
            (large - 1) * (side - 1) // max(small - 1, 1) + 1
            for large, small, side in zip(image[-2:], view[-2:], maps.shape[-2:])
        )
        enlarged[name] = resize_map(maps, kinds[name], (height, width))
    return enlarged


def _map_size(prediction: Prediction) -> Tuple[int, int]:
    """(h, w) of the first map."""
    maps = next(values for values in prediction.values() if values.dim() == 4)
    return int(maps.shape[-2]), int(maps.shape[-1])


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


class AveragedSegmenter(nn.Module):
    """
    A model for evaluation whose predictions are averaged over views and models.

    Takes and returns what :class:`Segmenter` does in evaluation.
    """

    def __init__(
        self,
        models: Sequence[Segmenter],
        *,
        averaging: Averaging = Averaging(),
        scales: Sequence[float] = (1.0,),
        min_sizes: Sequence[int] = (),
        max_size: int = 0,
        flip: bool = False,
    ):
        """
        Args:
            models: the first one's post-processing settings are used, and the input settings of
                the first with the largest output stride, whose padding suits all of them.
            averaging: of the models' record.
            scales: factors on the image's size.
            min_sizes: instead of ``scales``, lengths of the image's shorter side in each view.
            max_size: with ``min_sizes``, bound on the longer side; 0 = none.
            flip: add mirrored views.
        """
        super().__init__()
        self.first = models[0]
        self.others = nn.ModuleList(models[1:])
        strides = [model.output_stride for model in models]
        self._coarsest = strides.index(max(strides))
        self.averaging = averaging
        self.scales = tuple(scales)
        self.min_sizes = tuple(min_sizes)
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(
        cls, cfg: CfgNode, models: Sequence[Segmenter], averaging: Averaging = Averaging()
    ) -> "AveragedSegmenter":
        """As TEST.AUG and TEST.DEEPLAB2.SCALES say; no augmentation where it is not ENABLED."""
        aug, scales = cfg.TEST.AUG, cfg.TEST.DEEPLAB2.SCALES
        if not aug.ENABLED:
            return cls(models, averaging=averaging)
        return cls(
            models,
            averaging=averaging,
            scales=scales or (1.0,),
            min_sizes=() if scales else aug.MIN_SIZES,
            max_size=aug.MAX_SIZE,
            flip=aug.FLIP,
        )

    def forward(self, batched_inputs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        # One image at a time: the views of a batch would have different sizes.
        return [self._predict_one(sample) for sample in batched_inputs]

    def _predict_one(self, sample: Sample) -> Dict[str, Any]:
        models = [self.first, *(cast(Segmenter, model) for model in self.others)]
        images = models[self._coarsest].batch([sample])
        means = average_views(
            models,
            images.tensor,
            scales=self._scales_of(images.image_sizes[0]),
            flip=self.flip,
            averaging=self.averaging,
        )
        return self.first.postprocess(means.prediction(), images, [sample])[0]

    def _scales_of(self, size: Tuple[int, int]) -> Tuple[float, ...]:
        if not self.min_sizes:
            return self.scales
        shorter, longer = min(size), max(size)
        scales = [min_size / shorter for min_size in self.min_sizes]
        if self.max_size:
            scales = [min(scale, self.max_size / longer) for scale in scales]
        return tuple(scales)


def to_log(probabilities: Tensor) -> Tensor:
    """Log-probabilities, of which the softmax gives the probabilities back."""
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()
