"""From the frames of a video to predictions, whatever the model."""

from typing import Any, Dict, Iterable, Iterator, NamedTuple, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..structures import DatasetClasses
from ..video import SequenceRunner, TrackedSegmenter
from .evaluators import model_outputs
from .predictor import DeepLab2Predictor
from .setup import ConfigError

# Of the IoU tracker, as DeepLab2 runs it: a long video has more tracks than an image instances.
_TRACK_DIVISOR = 10000


class VideoPredictor:
    """
    A model over frames, one after the other; what it must know of those before it carries along.

    A model of single images gets an IoU tracker (:class:`TrackedSegmenter`).

    Attributes:
        metadata: of the dataset that the model was trained on.
        label_divisor: of ``track`` in the outputs, class * label_divisor + number.
    """

    def __init__(self, cfg: CfgNode, *, use_flow: bool = False, allow_random_weights: bool = False):
        """
        Args:
            cfg, allow_random_weights: see :class:`DeepLab2Predictor`, with the errors.
            use_flow: of the IoU tracker.

        Raises:
            ConfigError: if the model has no panoptic output, or ``use_flow`` would change nothing.
        """
        outputs = model_outputs(cfg)
        if "panoptic_seg" not in outputs:
            raise ConfigError(
                f"the model must return panoptic_seg, MODEL.META_ARCHITECTURE "
                f"{cfg.MODEL.META_ARCHITECTURE!r} returns {', '.join(outputs)}"
            )
        predictor = DeepLab2Predictor(cfg, allow_random_weights=allow_random_weights)
        self.metadata = predictor.metadata
        self._predictor = predictor
        self._model = predictor.model
        self.label_divisor = DatasetClasses.from_metadata(self.metadata).label_divisor
        if "track" not in outputs:
            self.label_divisor = max(self.label_divisor, _TRACK_DIVISOR)
            self._model = TrackedSegmenter(
                self._model, label_divisor=self.label_divisor, use_flow=use_flow
            )
        elif use_flow:
            raise ConfigError("optical flow must be off for a model that tracks by itself")

    def __call__(self, frames: Iterable[np.ndarray]) -> Iterator[Tuple[np.ndarray, Dict[str, Any]]]:
        """
        Args:
            frames: (H, W, 3) BGR, 0 to 255. They are read one ahead of what is returned.

        Returns:
            Each frame with the model's output of it, which has ``track``.
        """
        runner = SequenceRunner(self._model).eval()
        for index, (frame, sample) in enumerate(_with_neighbors(map(self._prepare, frames))):
            with torch.no_grad():
                (output,) = runner([{**sample, "sequence": 0, "frame": index}])
            yield frame, output

    def _prepare(self, frame: np.ndarray) -> "_Frame":
        return _Frame(frame, self._predictor.prepare(frame)["image"])


class _Frame(NamedTuple):
    """A frame as it was read, and as the network sees it."""

    pixels: np.ndarray
    image: Tensor


def _with_neighbors(frames: Iterator[_Frame]) -> Iterator[Tuple[np.ndarray, Dict[str, Any]]]:
    """
    Frames as samples that have the images beside them.

    The first has no ``previous_image``; the ``next_image`` of the last is its own.
    """
    current = next(frames, None)
    sample: Dict[str, Any] = {}
    while current is not None:
        following = next(frames, None)
        height, width = current.pixels.shape[:2]
        sample.update(image=current.image, height=height, width=width)
        sample["next_image"] = current.image if following is None else following.image
        yield current.pixels, sample
        sample = {"previous_image": current.image}
        current = following
