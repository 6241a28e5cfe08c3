"""A model with a further head: its loss and its output beside those that there are."""

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from torch import Tensor

from ..structures import ClassMap, Prediction
from .image_batch import ImageBatch
from .parts import Criterion, Inference, Losses, Sample
from .target_batch import Padding


@dataclass(frozen=True)
class JointCriterion:
    """
    Several criteria on one prediction.

    Attributes:
        parts: whose losses and metrics have names of their own.
    """

    parts: Tuple[Criterion, ...]

    @property
    def target_padding(self) -> Mapping[str, Padding]:
        """The targets of all parts."""
        padding: Dict[str, Padding] = {}
        for part in self.parts:
            for name, value in part.target_padding.items():
                if padding.setdefault(name, value) != value:
                    raise ValueError(
                        f"parts must pad {name!r} with one value, got {padding[name]} and {value}"
                    )
        return padding

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Sequence[str],
    ) -> Tuple[Losses, Dict[str, Tensor]]:
        """See :class:`Criterion`; each part is given everything."""
        losses: Losses = {}
        metrics: Dict[str, Tensor] = {}
        for part in self.parts:
            more_losses, more_metrics = part(predictions, targets, sources)
            twice = sorted(losses.keys() & more_losses.keys())
            if twice:
                raise ValueError(f"losses of parts must have names of their own, got {twice} twice")
            losses.update(more_losses)
            metrics.update(more_metrics)
        return losses, metrics


@dataclass(frozen=True)
class JointInference:
    """
    Several inferences on one prediction.

    Attributes:
        first: knows the classes.
        others: make further keys of an image's dict.
    """

    first: Inference
    others: Tuple[Inference, ...]

    @property
    def class_map(self) -> ClassMap:
        return self.first.class_map

    @property
    def outputs(self) -> Tuple[str, ...]:
        parts = (self.first, *self.others)
        return tuple(dict.fromkeys(name for part in parts for name in part.outputs))

    @property
    def makes_labels(self) -> bool:
        """Whether whoever makes ``sem_seg`` makes ``sem_seg_labels``, too."""
        makers = [part for part in (self.first, *self.others) if "sem_seg" in part.outputs]
        return all(getattr(part, "makes_labels", False) for part in makers)

    def with_outputs(self, *outputs: str) -> "JointInference":
        """The same, making other keys."""
        others = tuple(part.with_outputs(*outputs) for part in self.others)
        return replace(self, first=self.first.with_outputs(*outputs), others=others)

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """See :class:`Inference`."""
        outputs = self.first(prediction, images, samples)
        for part in self.others:
            for output, more in zip(outputs, part(prediction, images, samples)):
                output.update(more)
        return outputs
