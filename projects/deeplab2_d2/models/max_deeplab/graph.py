"""The post-processing of exported files."""

from typing import Dict, Tuple

from torch import Tensor

from ...postprocessing import graph_panoptic_from_mask_slots
from ...records import GraphInference
from ...structures import Prediction
from ..segmenter import Segmenter
from .inference import MaXDeepLabInference


def build_graph(model: Segmenter) -> GraphInference:
    """The labels that the model's inference gives."""
    inference = model.inference
    assert isinstance(inference, MaXDeepLabInference)

    def label(prediction: Prediction, stride: int, size: Tuple[int, int]) -> Dict[str, Tensor]:
        return graph_panoptic_from_mask_slots(
            prediction["mask_logits"],
            prediction["class_logits"],
            stride,
            size,
            thing_ids=inference.thing_ids,
            label_divisor=inference.label_divisor,
            options=inference.options,
        )

    return label
