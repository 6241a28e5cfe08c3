"""Our inference from decoder outputs for the cases of ``parity/meta``."""

from typing import Any, Dict, Mapping, Optional

import numpy as np

from deeplab2_d2.postprocessing import postprocess_panoptic
from deeplab2_d2.structures import PanopticDeepLabPrediction

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
    prediction = PanopticDeepLabPrediction(
        *(
            channels_first(arrays[name])
            for name in ("in/semantic_logits", "in/center_heatmap", "in/offset_map")
        )
    )
    segmentation = postprocess_panoptic(
        prediction,
        input_size=size,
        image_size=size,
        output_size=size,
        thing_ids=case["thing_class_ids"],
        label_divisor=case["label_divisor"],
        stuff_area_limit=options["stuff_area_limit"],
        center_threshold=options["center_score_threshold"],
        nms_kernel=options["nms_kernel"],
        top_k_centers=options["keep_k_centers"],
    )
    kept = kept_heatmap(
        prediction.center_heatmap,
        threshold=options["center_score_threshold"],
        nms_kernel=options["nms_kernel"],
        size=size,
    )
    return reference_outputs(segmentation, kept, case["ignore_label"] * case["label_divisor"])
