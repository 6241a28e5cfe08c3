"""The post-processing of exported files."""

from typing import Dict, Tuple

from torch import Tensor

from ...postprocessing import enlarged_argmax, label_table
from ...records import GraphInference
from ...structures import Prediction
from ..segmenter import Segmenter


def build_graph(model: Segmenter) -> GraphInference:
    """The class of each pixel, of the largest enlarged logit."""
    channel_to_class = model.inference.class_map.channel_to_class

    def label(prediction: Prediction, stride: int, size: Tuple[int, int]) -> Dict[str, Tensor]:
        channel, _ = enlarged_argmax(prediction["semantic_logits"], stride, size)
        return {"semantic_map": label_table(channel_to_class, channel).int()}

    return label
