"""The parts of a model, as protocols: head, criterion, inference."""

from typing import Any, Dict, List, Mapping, Protocol, Sequence, Tuple

from torch import Tensor

from ..ops import SlotSegmentation
from ..structures import ClassMap, MapKind, Prediction
from .image_batch import ImageBatch, Size
from .target_batch import Padding

# Detectron2's dict of one image: ``image`` and whatever mapper, loader and caller add to it.
Sample = Mapping[str, Any]
Losses = Dict[str, Tensor]


class Head(Protocol):
    """
    Features of the backbone to raw predictions.

    Attributes:
        kinds: name of every map of a prediction to its kind.
    """

    kinds: Dict[str, MapKind]

    def __call__(self, features: Any) -> Prediction: ...


class Criterion(Protocol):
    """Raw predictions and targets to losses."""

    @property
    def target_padding(self) -> Mapping[str, Padding]:
        """The targets that are needed, and how each is padded; see :func:`stack_targets`."""
        ...

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Sequence[str],
    ) -> Tuple[Losses, Dict[str, Tensor]]:
        """
        Args:
            predictions: the final one, then auxiliary ones.
            targets: name to (N, ...), maps at the size of the network's input.
            sources: name of each image, for errors.

        Returns:
            Losses, and metrics without gradient: scalars by name.
        """
        ...


class Inference(Protocol):
    """
    Raw predictions to Detectron2's outputs.

    Attributes:
        class_map: classes of the semantic channels.
        outputs: which keys of an image's dict are made.

    One that makes ``sem_seg_labels`` if that is among the outputs has ``makes_labels = True``, and
    one that can be part of a CUDA graph is a :class:`StagedInference`.
    """

    @property
    def class_map(self) -> ClassMap: ...

    @property
    def outputs(self) -> Tuple[str, ...]: ...

    def with_outputs(self, *outputs: str) -> "Inference":
        """The same, making other keys."""
        ...

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps that cover ``images.tensor``.
            images: the network's input.
            samples: with ``height`` and ``width`` of the outputs, if they are not the images', and
                for videos the sequence, the frame and the caller's state.

        Returns:
            One dict an image, see :meth:`Segmenter.forward`.
        """
        ...


class StagedInference(Inference, Protocol):
    """
    An inference in two steps, of which the first does not wait for the device.

    Attributes:
        is_capturable: whether that is so.
    """

    @property
    def is_capturable(self) -> bool: ...

    def compute(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        The first step.

        Args:
            prediction, images: as in a call.
            samples: of which nothing but the sizes of the outputs has an effect.

        Returns:
            One dict an image, of tensors and of tuples of them.
        """
        ...

    def complete(self, computed: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """What a call returns, of what :meth:`compute` has returned."""
        ...


class SlotInference(Inference, Protocol):
    """
    The inference of a model with mask slots.

    Attributes:
        thing_ids: contiguous ids of the classes that have instances, ascending.
        label_divisor: panoptic label = class * label_divisor + instance number.
    """

    @property
    def thing_ids(self) -> Tuple[int, ...]: ...

    @property
    def label_divisor(self) -> int: ...

    def segment(
        self, prediction: Prediction, images: ImageBatch, index: int, output_size: Size
    ) -> SlotSegmentation:
        """
        Args:
            prediction, images: as in a call.
            index: of the image.
            output_size: (height, width) of its outputs.

        Returns:
            Labels, slots and scores of that one image.
        """
        ...
