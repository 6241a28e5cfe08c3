"""From logits to the semantic scores of the original images."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, List, Sequence, Tuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...postprocessing import to_semantic_outputs
from ...structures import SEMANTIC_LABELS, ClassMap, Prediction, cached_table, select_images
from ..class_map import class_map_from_config
from ..image_batch import ImageBatch
from ..parts import Sample
from .targets import outputs


@dataclass(frozen=True)
class SemanticInference:
    """
    Attributes:
        class_map: classes of the semantic channels.
        outputs: which keys of an image's dict are made: ``sem_seg``, ``sem_seg_labels``, or none.
        score_shifts: what is added to the logits of each channel; () = nothing.
    """

    class_map: ClassMap
    outputs: Tuple[str, ...] = ("sem_seg",)
    score_shifts: Tuple[float, ...] = ()
    makes_labels: ClassVar[bool] = True
    is_capturable: ClassVar[bool] = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "SemanticInference":
        node = cfg.MODEL.DEEPLAB2.DEEPLAB
        shifts: Tuple[float, ...] = ()
        if node.WEIGHT_CORRECTION > 0:
            shifts = tuple(-node.WEIGHT_CORRECTION * math.log(w) for w in node.CLASS_WEIGHTS)
        return cls(class_map_from_config(cfg), outputs(cfg), shifts)

    def with_outputs(self, *outputs: str) -> "SemanticInference":
        """The same, making other keys."""
        return replace(self, outputs=outputs)

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: ``semantic_logits`` that cover ``images``.
            images: the network's input.
            samples: with the sizes of the outputs.

        Returns:
            For each image what is wanted of ``sem_seg`` and ``sem_seg_labels``.
        """
        return self.complete(self.compute(prediction, images, samples))

    def compute(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """See :class:`StagedInference`."""
        if not {"sem_seg", SEMANTIC_LABELS} & set(self.outputs):
            return [{} for _ in samples]
        described = []
        for index, sample in enumerate(samples):
            logits = select_images(prediction, index)["semantic_logits"]
            if self.score_shifts:
                logits = logits + _shift_table(self.score_shifts, logits.dtype, logits.device)
            frames = images.frames(sample, index)
            described.append(
                to_semantic_outputs(logits, frames, self.outputs, class_map=self.class_map)
            )
        return described

    def complete(self, computed: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """See :class:`StagedInference`; there is nothing left to do."""
        return list(computed)


@cached_table
def _shift_table(shifts: Tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(C, 1, 1)."""
    return torch.tensor(shifts, dtype=dtype).view(-1, 1, 1).to(device)
