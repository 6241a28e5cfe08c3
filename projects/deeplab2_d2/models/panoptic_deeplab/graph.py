"""The post-processing of exported files."""

from typing import Dict, Tuple, cast

from torch import Tensor

from ...postprocessing import enlarged_argmax, graph_panoptic_from_centers, label_table
from ...records import GraphInference
from ...structures import Prediction
from .inference import PanopticDeepLabInference
from .network import DeepLab2PanopticDeepLab


def build_graph(model: DeepLab2PanopticDeepLab) -> GraphInference:
    """
    The labels that the model's inference gives, or classes alone of a semantic model.

    Raises:
        ValueError: if the model keeps all centers, whose number no graph has.
    """
    inference = cast(PanopticDeepLabInference, model.inference)
    channel_to_class = inference.class_map.channel_to_class
    if inference.thing_ids and inference.top_k_centers < 1:
        raise ValueError(
            "config key MODEL.DEEPLAB2.POSTPROCESSING.TOP_K_CENTERS must be at least 1 to export "
            f"post-processing, got {inference.top_k_centers}"
        )

    def label(prediction: Prediction, stride: int, size: Tuple[int, int]) -> Dict[str, Tensor]:
        logits = prediction["semantic_logits"]
        if "center_heatmap" not in prediction:
            channel, _ = enlarged_argmax(logits, stride, size)
            return {"semantic_map": label_table(channel_to_class, channel).int()}
        maps = (logits, prediction["center_heatmap"], prediction["center_offsets"])
        options = dict(inference.options)
        options["channel_to_class"] = options.pop("class_map").channel_to_class
        return graph_panoptic_from_centers(*maps, stride, size, **options)

    return label
