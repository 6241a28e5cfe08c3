"""Our panoptic labels for the cases of ``parity/postprocessing``."""

from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import torch
from torch import Tensor

from deeplab2_d2.ops import PanopticSegmentation, find_centers
from deeplab2_d2.postprocessing import (
    Frames,
    SlotOptions,
    panoptic_from_centers,
    panoptic_from_mask_slots,
)
from deeplab2_d2.video import TrackState, continue_tracks, draw_centers, start_tracks, stitch

Arrays = Mapping[str, np.ndarray]

_PANOPTIC_DEEPLAB = "post_processor.panoptic_deeplab.PostProcessor"
_MAX_DEEPLAB = "post_processor.max_deeplab.PostProcessor"
_MOTION_DEEPLAB = (
    "post_processor.motion_deeplab."
    "{render_panoptic_map_as_heatmap,assign_instances_to_previous_tracks}"
)
_VIP_DEEPLAB = "post_processor.vip_deeplab.VideoPanopticPredictionStitcher"


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names; None if it is not ported."""
    if case["target"] == _MAX_DEEPLAB:
        return _port_max_deeplab(case["params"], arrays)
    if case["target"] == _MOTION_DEEPLAB:
        return _port_tracking(case["params"], arrays)
    if case["target"] == _VIP_DEEPLAB:
        return _port_stitching(case["params"], arrays)
    if case["target"] != _PANOPTIC_DEEPLAB:
        return None
    params = case["params"]
    heatmap = channels_first(arrays["in/center_heatmap"])
    height, width = heatmap.shape[-2:]
    segmentation = panoptic_from_centers(
        channels_first(arrays["in/semantic_probs"]),
        heatmap,
        channels_first(arrays["in/offset_map"]),
        Frames.unpadded((height, width)),
        thing_ids=params["thing_class_ids"],
        label_divisor=params["label_divisor"],
        stuff_area_limit=params["stuff_area_limit"],
        center_threshold=params["center_score_threshold"],
        nms_kernel=params["nms_kernel"],
        top_k_centers=params["keep_k_centers"],
    )
    kept = kept_heatmap(
        heatmap,
        threshold=params["center_score_threshold"],
        nms_kernel=params["nms_kernel"],
        size=segmentation.panoptic_map.shape[1:],
    )
    return reference_outputs(segmentation, kept, params["void_label"] * params["label_divisor"])


def _port_max_deeplab(params: Dict[str, Any], arrays: Arrays) -> Arrays:
    mask_wise = params["maskwise_postprocessing"] or {}
    names = {
        "thing_class_threshold": "transformer_class_confidence_threshold_thing",
        "stuff_class_threshold": "transformer_class_confidence_threshold_stuff",
        "overlap_threshold": "overlapping_threshold",
        "class_weight": "reorder_class_weight",
        "mask_weight": "reorder_mask_weight",
    }
    segmentation = panoptic_from_mask_slots(
        channels_first(arrays["in/pixel_space_mask_logits"]),
        torch.from_numpy(arrays["in/transformer_class_logits"]),
        Frames.unpadded(tuple(params["image_shape"])),
        thing_ids=params["thing_class_ids"],
        channel_to_class=params["thing_class_ids"] + params["stuff_class_ids"],
        label_divisor=params["label_divisor"],
        options=SlotOptions(
            mode=params["transformer_post_processing"],
            class_confidence_threshold=params["transformer_class_confidence_threshold"],
            mask_confidence_threshold=params["pixel_confidence_threshold"],
            thing_area_limit=params["thing_area_limit"],
            stuff_area_limit=params["stuff_area_limit"],
            **{ours: mask_wise[theirs] for ours, theirs in names.items() if mask_wise},
        ),
    )
    panoptic, slot = segmentation.panoptic_map, segmentation.slot_map
    # The reference has another label for void, and numbers masks from 1, which "no slot" is too.
    index = slot.flatten(1).clamp(min=0).long()
    number = segmentation.slot_rank.gather(1, index).view_as(slot) + 1
    confidence = segmentation.class_confidence.gather(1, index).view(slot.shape)
    void_label = params["void_label"] * params["label_divisor"]
    return {
        "out/panoptic_pred": torch.where(panoptic < 0, void_label, panoptic).numpy(),
        "out/semantic_pred": segmentation.semantic_map.numpy(),
        "out/instance_pred": torch.where(slot < 0, 1, number).numpy(),
        "out/instance_scores": segmentation.mask_confidence.numpy(),
        "out/semantic_scores": torch.where(slot < 0, 0.0, confidence).numpy(),
    }


def _port_tracking(params: Dict[str, Any], arrays: Arrays) -> Arrays:
    """Frame by frame, the state carried along."""
    state = start_tracks()
    divisor, void = params["label_divisor"], params["void_label"]
    outputs: Dict[str, np.ndarray] = {}
    maps: Dict[str, List[Any]] = {"out/heatmap": [], "out/panoptic": [], "out/next_id": []}
    offsets = channels_first(arrays["in/frame_offset"])
    for frame, panoptic in enumerate(arrays["in/panoptic"]):
        ours = torch.from_numpy(np.where(panoptic // divisor == void, -1, panoptic))
        tracked, state, instances = continue_tracks(
            ours, offsets[frame], state, label_divisor=divisor, keep_frames=params["keep_frames"]
        )
        reaches = (instances.boxes[:, 2:] - instances.boxes[:, :2]).prod(dim=1)
        before = [instances.centers.flip(1), instances.labels[:, None], reaches[:, None]]
        before.append(torch.zeros_like(reaches[:, None]))
        columns = torch.cat(before, dim=1).numpy()
        # Of no rows, the reference has no columns either.
        outputs[f"out/centers_before/{frame}"] = columns if len(columns) else np.zeros(0)
        outputs[f"out/centers_after/{frame}"] = state_columns(state)
        maps["out/heatmap"].append(
            draw_centers(instances.centers, panoptic.shape, sigma=params["sigma"]).numpy()
        )
        maps["out/panoptic"].append(np.where(panoptic // divisor == void, panoptic, tracked))
        maps["out/next_id"].append(state.next_number)
    return {**outputs, **{name: np.array(values) for name, values in maps.items()}}


def state_columns(state: TrackState) -> np.ndarray:
    """(K, 5): x, y, label, reach and age of each track, as the reference keeps them."""
    columns = (state.labels, state.reaches, state.ages)
    return np.column_stack([state.centers[:, ::-1], *columns])


def _port_stitching(params: Dict[str, Any], arrays: Arrays) -> Arrays:
    stitched = stitch(
        torch.from_numpy(arrays["in/concat_panoptic"][0]),
        torch.from_numpy(arrays["in/next_panoptic"][0]),
        label_divisor=params["label_divisor"],
        number_offset=params["overlap_offset"],
    ).numpy()
    return {"out/panoptic_tf": stitched[None], "out/panoptic_numpy": stitched}


def channels_first(maps: np.ndarray) -> Tensor:
    """(N, H, W, C) as (N, C, H, W)."""
    return torch.from_numpy(maps).movedim(-1, 1).contiguous()


def kept_heatmap(heatmap: Tensor, *, threshold: float, nms_kernel: int, size: Any) -> Tensor:
    """(N, H, W): the heatmap (N, 1, h, w) at every center before the top-k, else 0."""
    height, width = size
    scale = [
        float(np.float32((low - 1) / (high - 1))) for low, high in zip(heatmap.shape[-2:], size)
    ]
    centers, scores, counts = find_centers(
        heatmap[:, 0], (height, width), (scale[0], scale[1]),
        threshold=threshold, nms_kernel=nms_kernel, top_k=0,
    )  # fmt: skip
    kept = torch.zeros(len(heatmap), height, width)
    for image, count in enumerate(counts.tolist()):
        y, x = centers[image, :count].long().unbind(dim=1)
        kept[image, y, x] = scores[image, :count]
    return kept


def reference_outputs(segmentation: PanopticSegmentation, kept: Tensor, void_label: int) -> Arrays:
    """The outputs under the reference's names; it has another label for void."""
    instance = segmentation.instance_map.flatten(1).long()
    scores = torch.nn.functional.pad(segmentation.segments.objectness, (1, 0))
    panoptic = segmentation.panoptic_map
    return {
        "out/panoptic_pred": torch.where(panoptic < 0, void_label, panoptic).numpy(),
        "out/semantic_pred": segmentation.semantic_map.numpy(),
        "out/instance_pred": segmentation.instance_map.numpy(),
        "out/instance_center_pred": kept.numpy(),
        "out/instance_scores": scores.gather(1, instance).view(panoptic.shape).numpy(),
    }
