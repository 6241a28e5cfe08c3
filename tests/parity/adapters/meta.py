"""Our inference from decoder outputs for the cases of ``parity/meta``."""

from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from deeplab2_d2.models import ImageBatch
from deeplab2_d2.models.motion_deeplab import MotionDeepLabInference
from deeplab2_d2.models.panoptic_deeplab import PanopticDeepLabInference
from deeplab2_d2.ops import PanopticSegmentation
from deeplab2_d2.postprocessing import Frames, panoptic_from_frame_pair
from deeplab2_d2.postprocessing.maps import to_output
from deeplab2_d2.structures import Prediction, identity_class_map
from deeplab2_d2.video import start_tracks, stitch

from .postprocessing import channels_first, kept_heatmap, reference_outputs, state_columns

Arrays = Mapping[str, np.ndarray]

# Defaults of the reference's options (evaluator.proto), which its description leaves out.
_DEFAULTS = {
    "stuff_area_limit": 0,
    "center_score_threshold": 0.1,
    "nms_kernel": 3,
    "keep_k_centers": 400,
}
_NAMES = {
    "semantic_logits": "semantic_logits",
    "center_heatmap": "center_heatmap",
    "offset_map": "center_offsets",
    "frame_offset_map": "frame_offsets",
    "next_offset_map": "next_center_offsets",
    "depth_pred": "depth",
}


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names; None if it is not ported."""
    for model, run in _MODELS.items():
        if model in case["config"]["model_options"]:
            return run(case, arrays)
    return None


def _inference(case: Dict[str, Any]) -> PanopticDeepLabInference:
    options = {**_DEFAULTS, **case["config"]["evaluator_options"]}
    return PanopticDeepLabInference(
        class_map=identity_class_map(case["num_classes"]),
        thing_ids=tuple(case["thing_class_ids"]),
        label_divisor=case["label_divisor"],
        stuff_area_limit=options["stuff_area_limit"],
        center_threshold=options["center_score_threshold"],
        nms_kernel=options["nms_kernel"],
        top_k_centers=options["keep_k_centers"],
    )


def _size(case: Dict[str, Any]) -> Tuple[int, int]:
    height, width = case["config"]["eval_dataset_options"]["crop_size"]
    return height, width


def _prediction(arrays: Arrays, prefix: str) -> Prediction:
    names = {name for name in _NAMES if prefix + name in arrays}
    return {_NAMES[name]: channels_first(arrays[prefix + name]) for name in names}


def _outputs(
    case: Dict[str, Any], heatmap: Tensor, result: PanopticSegmentation
) -> Dict[str, np.ndarray]:
    inference = _inference(case)
    kept = kept_heatmap(
        heatmap,
        threshold=inference.center_threshold,
        nms_kernel=inference.nms_kernel,
        size=_size(case),
    )
    return dict(reference_outputs(result, kept, _void(case)))


def _void(case: Dict[str, Any]) -> int:
    return case["ignore_label"] * case["label_divisor"]


def _panoptic_deeplab(case: Dict[str, Any], arrays: Arrays) -> Arrays:
    prediction = _prediction(arrays, "in/")
    result = _inference(case).segment(prediction, Frames.unpadded(_size(case)))
    return _outputs(case, prediction["center_heatmap"], result)


def _motion_deeplab(case: Dict[str, Any], arrays: Arrays) -> Arrays:
    """Frame by frame, the state carried along."""
    size, panoptic = _size(case), _inference(case)
    inference = MotionDeepLabInference(panoptic, outputs=("track",))
    images = ImageBatch(torch.zeros(1, 7, *size), [size])
    outputs: Dict[str, np.ndarray] = {}
    frame = 0
    state = start_tracks()
    while f"in/{frame}/semantic_logits" in arrays:
        sample = {"image": torch.full((3, *size), float(frame)), "state": state}
        sample["previous_image"] = torch.full((3, *size), frame - 1.0)
        prediction = _prediction(arrays, f"in/{frame}/")
        _, heatmap = inference.previous(sample)
        (output,) = inference(prediction, images, [sample])
        state, track = output["state"], output["track"][None]
        found = _outputs(
            case,
            prediction["center_heatmap"],
            panoptic.segment(prediction, Frames.unpadded(size))._replace(panoptic_map=track),
        )
        found["out/encoder_input_channel6"] = (heatmap / 127.5 - 1.0).numpy()
        found["out/next_tracking_id"] = np.array(state.next_number)
        found["out/centers"] = state_columns(state)
        outputs.update({f"out/{frame}/{name[4:]}": values for name, values in found.items()})
        frame += 1
    return outputs


def _vip_deeplab(case: Dict[str, Any], arrays: Arrays) -> Arrays:
    frames, inference = Frames.unpadded(_size(case)), _inference(case)
    first, second = (_prediction(arrays, f"in/{frame}/") for frame in (0, 1))
    first["next_semantic_logits"] = second["semantic_logits"]
    pair = panoptic_from_frame_pair(first, frames, **inference.options)
    stitched = stitch(
        pair.second_map[0],
        inference.segment(second, frames).panoptic_map[0],
        label_divisor=case["label_divisor"],
    )
    outputs = _outputs(case, first["center_heatmap"], pair.first)
    for name, labels in (("concat_next", pair.second_map), ("next", stitched[None])):
        void = torch.full_like(labels, _void(case))
        outputs[f"out/{name}_panoptic_pred"] = torch.where(labels < 0, void, labels).numpy()
    outputs["out/depth_pred"] = to_output(first["depth"], "depth", frames).movedim(1, -1).numpy()
    return outputs


_MODELS: Dict[str, Callable[[Dict[str, Any], Arrays], Arrays]] = {
    "panoptic_deeplab": _panoptic_deeplab,
    "motion_deeplab": _motion_deeplab,
    "vip_deeplab": _vip_deeplab,
}
