"""From logits to the semantic scores of the original images."""

import math
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Sequence, Tuple

from detectron2.config import CfgNode

from ...postprocessing import semantic_scores
from ...structures import ClassMap, Prediction, select_images
from ..class_map import class_map_from_config
from ..image_batch import ImageBatch
from ..segmenter import Sample
from .targets import outputs


@dataclass(frozen=True)
class SemanticInference:
    """
    Attributes:
        class_map: classes of the semantic channels.
        outputs: which keys of an image's dict are made: ``sem_seg`` or none.
        score_shifts: what is added to the logits of each channel; () = nothing.
    """

    class_map: ClassMap
    outputs: Tuple[str, ...] = ("sem_seg",)
    score_shifts: Tuple[float, ...] = ()

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
            For each image ``sem_seg``, if it is wanted.
        """
        if "sem_seg" not in self.outputs:
            return [{} for _ in samples]
        described = []
        for index, sample in enumerate(samples):
            logits = select_images(prediction, index)["semantic_logits"]
            if self.score_shifts:
                logits = logits + logits.new_tensor(self.score_shifts).view(-1, 1, 1)
            frames = images.frames(sample, index)
            scores = semantic_scores(logits, frames, class_map=self.class_map)
            described.append({"sem_seg": scores[0]})
        return described
