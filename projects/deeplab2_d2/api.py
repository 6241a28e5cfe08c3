"""
Models for Python programs, in three lines::

    from deeplab2_d2 import load_model

    model = load_model("panoptic_deeplab/resnet50_os32_cityscapes")
    result = model("street.jpg")
"""

import threading
from typing import Any, Dict, List, Optional, Tuple, Union, overload

import torch
from detectron2.config import CfgNode
from torch import nn

from .engine.config_error import ConfigError
from .engine.evaluators import model_outputs
from .engine.image_input import ImageSource, NamedImage, to_image
from .engine.model_source import Device, FilePath, ModelSource, Options, config_of_model
from .engine.palette import Palette
from .engine.predictor import DeepLab2Predictor
from .engine.preflight import check_device
from .engine.result import Result, Segment, result_of_output

__all__ = ["Model", "Result", "Segment", "load_model"]

# Images of one size that go through the network at once.
BATCH_SIZE = 4
# What stands in for the name of an image that has none.
_UNNAMED = "image"


def load_model(
    source: ModelSource,
    *,
    weights: Optional[FilePath] = None,
    opts: Options = (),
    device: Optional[Device] = None,
    random_weights: bool = False,
) -> "Model":
    """
    A model that is ready to predict.

    Args:
        source: one of

            - a name of the zoo, short (``panoptic_deeplab/resnet50_os32_cityscapes``) or the
              row's own (``resnet50_os32_panoptic_deeplab_cityscapes_trainfine``), with or without
              ``deeplab2://``; its weights are downloaded at the first time;
            - a config file (.yaml), with ``weights`` or its own MODEL.WEIGHTS;
            - a checkpoint of a training here (.pth), which holds its config, or the folder of the
              training: its last checkpoint;
            - a config (``CfgNode``).
        weights: whatever MODEL.WEIGHTS may be, instead of the source's; "" = none.
        opts: changes of the config, as ``["TEST.AUG.ENABLED", True]`` or a dict of them.
        device: "cpu", "cuda", "cuda:1", ...; by default the GPU if there is one.
        random_weights: for trying a model out: let what the weights lack be random. Of a model of
            the zoo nothing is downloaded, and all of it is random.

    Raises:
        ConfigError: if there is no such model, or its config cannot be used, or weights are
            missing; the message says which and what is near.
        FileNotFoundError, OSError: if a file is not there or cannot be downloaded.
        ValueError: if weights do not fit.
    """
    cfg = config_of_model(
        source, weights=weights, opts=opts, device=device, random_weights=random_weights
    )
    return Model(cfg, random_weights=random_weights)


class Model:
    """
    A model in evaluation mode: images in, :class:`Result` out.

    It may be called from several threads; their calls wait for each other.

    A model of videos (Motion-DeepLab, ViP-DeepLab) takes each image as the first frame of a video:
    ViP-DeepLab's result has ``depth``. For tracks see ``demo/video_demo.py``.
    """

    def __init__(self, cfg: CfgNode, *, random_weights: bool = False):
        """
        Args:
            cfg: with MODEL.WEIGHTS and MODEL.DEVICE; see :func:`load_model`.
            random_weights: let what the weights lack be random.

        Raises:
            ConfigError: see :func:`load_model`; also if the model returns boxes alone.
        """
        outputs = model_outputs(cfg)
        if not {"panoptic_seg", "sem_seg"} & set(outputs):
            raise ConfigError(
                f"the model must return panoptic_seg or sem_seg, MODEL.META_ARCHITECTURE "
                f"{cfg.MODEL.META_ARCHITECTURE!r} returns {', '.join(outputs)}"
            )
        self._predictor = DeepLab2Predictor(cfg, allow_random_weights=random_weights)
        self._palette = Palette(self._predictor.metadata)
        self._lock = threading.Lock()

    @property
    def cfg(self) -> CfgNode:
        """A copy of the config."""
        return self._predictor.cfg.clone()

    @property
    def network(self) -> nn.Module:
        """Detectron2's model, which takes and returns lists of dicts."""
        network: nn.Module = self._predictor.model
        return network

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return torch.device(self._predictor.cfg.MODEL.DEVICE)

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes, ``classes[segment.class_id]``."""
        return self._palette.names

    @property
    def categories(self) -> Tuple[Dict[str, Any], ...]:
        """``id``, ``name`` and ``isthing`` of each class, as COCO's ``categories``."""
        return tuple(dict(category) for category in self._palette.categories)

    def to(self, device: Device) -> "Model":
        """
        Move the network, in place.

        Returns:
            this model.

        Raises:
            ConfigError: if there is no such device.
        """
        cfg = self.cfg
        cfg.defrost()
        cfg.MODEL.DEVICE = str(device)
        check_device(cfg)
        cfg.freeze()
        with self._lock:
            self.network.to(device)
            self._predictor.cfg = cfg
        return self

    def __repr__(self) -> str:
        architecture = self._predictor.cfg.MODEL.META_ARCHITECTURE
        return f"Model({architecture}, {len(self.classes)} classes, on {self.device})"

    @overload
    def __call__(
        self,
        images: ImageSource,
        *,
        confidence: float = ...,
        semantic_scores: bool = ...,
        batch_size: int = ...,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        images: "List[Any] | Tuple[Any, ...]",
        *,
        confidence: float = ...,
        semantic_scores: bool = ...,
        batch_size: int = ...,
    ) -> List[Result]: ...

    def __call__(
        self,
        images: "ImageSource | List[Any] | Tuple[Any, ...]",
        *,
        confidence: float = 0.0,
        semantic_scores: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> Union[Result, List[Result]]:
        """
        Predict.

        Args:
            images: a path, a PIL image, an array (uint8, (H, W, 3) RGB or (H, W) gray) or a tensor
                (uint8, (3, H, W) RGB) of any size, or a list of such, each an image of its own.
                Files and PIL images are turned upright as their EXIF data say.
            confidence: segments and instances of a lower score are left out.
            semantic_scores: keep the scores of all classes, four bytes a pixel and class.
            batch_size: of a list, images of one size that go through the network at once; images of
                different sizes never do, so that none sees another's padding.

        Returns:
            A result, or of a list a list in its order.

        Raises:
            FileNotFoundError, TypeError, ValueError: of an image that cannot be read or taken.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not isinstance(images, (list, tuple)):
            image = to_image(images)
            return self._predict([image], [_UNNAMED], confidence, semantic_scores)[0]
        results: Dict[int, Result] = {}
        waiting: Dict[Tuple[int, ...], List[int]] = {}
        read: Dict[int, NamedImage] = {}
        for index, source in enumerate(images):
            read[index] = to_image(source)
            group = waiting.setdefault(read[index].pixels.shape, [])
            group.append(index)
            if len(group) == batch_size:
                self._finish(group, read, results, confidence, semantic_scores)
        for group in waiting.values():
            if group:
                self._finish(group, read, results, confidence, semantic_scores)
        return [results[index] for index in range(len(images))]

    def _finish(
        self,
        group: List[int],
        read: Dict[int, NamedImage],
        results: Dict[int, Result],
        confidence: float,
        keeps_scores: bool,
    ) -> None:
        """Predict the images of a group, which is emptied."""
        batch = [read.pop(index) for index in group]
        names = [f"{_UNNAMED}_{index}" for index in group]
        results.update(zip(group, self._predict(batch, names, confidence, keeps_scores)))
        group.clear()

    def _predict(
        self, batch: List[NamedImage], names: List[str], confidence: float, keeps_scores: bool
    ) -> List[Result]:
        with self._lock:
            outputs = self._predictor.predict_batch(
                [image.pixels[:, :, ::-1] for image in batch], needs_scores=keeps_scores
            )
        return [
            result_of_output(
                image,
                output,
                self._palette,
                name=name,
                confidence=confidence,
                keeps_scores=keeps_scores,
            )
            for image, output, name in zip(batch, outputs, names)
        ]
