"""Our inference from decoder outputs for the cases of ``parity/meta``."""

from typing import Any, Dict, Mapping, Optional

import numpy as np

from deeplab2_d2.postprocessing import Frames, panoptic_from_centers

from .postprocessing import channels_first, kept_heatmap, reference_outputs

Arrays = Mapping[str, np.ndarray]

# Defaults of the reference's options (evaluator.proto), which its description leaves out.
_DEFAULTS = {
    "stuff_area_limit": 0,
    "center_score_threshold": 0.1,
    "nms_kernel": 3,
    "keep_k_centers": 400,
}


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names; None if it is not ported."""
    if "panoptic_deeplab" not in case["config"]["model_options"]:
        return None
    options = {**_DEFAULTS, **case["config"]["evaluator_options"]}
    height, width = case["config"]["eval_dataset_options"]["crop_size"]
    size = (height, width)
    heatmap = channels_first(arrays["in/center_heatmap"])
    segmentation = panoptic_from_centers(
        channels_first(arrays["in/semantic_logits"]),
        heatmap,
        channels_first(arrays["in/offset_map"]),
        Frames.unpadded(size),
        thing_ids=case["thing_class_ids"],
        label_divisor=case["label_divisor"],
        stuff_area_limit=options["stuff_area_limit"],
        center_threshold=options["center_score_threshold"],
        nms_kernel=options["nms_kernel"],
        top_k_centers=options["keep_k_centers"],
    )
    kept = kept_heatmap(
        heatmap,
        threshold=options["center_score_threshold"],
        nms_kernel=options["nms_kernel"],
        size=size,
    )
    return reference_outputs(segmentation, kept, case["ignore_label"] * case["label_divisor"])
