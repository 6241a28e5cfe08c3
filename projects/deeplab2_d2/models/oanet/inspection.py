"""What the ranking module does with the detections of one image."""

from typing import Any, Mapping, Optional

import torch
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from torch import Tensor

from ...records import RankedImage
from .merging import Panoptic, merge_instances_and_stuff
from .network import DeepLab2OANet
from .ranking import draw_instances, find_conflicts, resize_masks


@torch.no_grad()
def rank_image(model: DeepLab2OANet, sample: Mapping[str, Any]) -> RankedImage:
    """
    Args:
        model: in evaluation mode.
        sample: as it takes it.

    Returns:
        Its detections, before any is covered by another.

    Raises:
        ValueError: if the model has no ranking module.
    """
    (detected,), (logits,) = model.inference([sample], do_postprocess=False)
    input_size = detected.image_size
    height = int(sample.get("height", input_size[0]))
    width = int(sample.get("width", input_size[1]))
    channels = model.stuff_channels
    stuff = logits[list(channels.stuff_channels)].softmax(dim=0)
    stuff_map = channels.stuff_map(sem_seg_postprocess(stuff, input_size, height, width))
    instances = detector_postprocess(detected, height, width)
    is_sure = ~(instances.scores.double() < model.combine_instances_score_thresh)
    instances = instances[is_sure]
    rank_scores = model.rank(instances, input_size)
    head = model.ranking_head
    assert head is not None
    masks, places = instances.pred_masks, instances.pred_classes
    resized = resize_masks(masks, input_size, head.stride)
    ranking_map = head(draw_instances(resized, places, head.num_classes)[None])[0]
    thing_ids = torch.tensor(channels.classes.thing_ids, device=places.device)
    instances.pred_classes = thing_ids[places]

    def merge(ranks: Optional[Tensor], overlap_threshold: Optional[float] = None) -> Panoptic:
        return merge_instances_and_stuff(
            instances,
            stuff_map,
            stuff_ids=channels.classes.stuff_ids,
            rank_scores=ranks,
            score_threshold=model.combine_instances_score_thresh,
            overlap_threshold=(
                model.combine_overlap_thresh if overlap_threshold is None else overlap_threshold
            ),
            stuff_area_limit=int(model.combine_stuff_area_thresh),
            is_stuff_connected=model.is_stuff_connected,
        )

    return RankedImage(
        instances=instances,
        rank_scores=rank_scores,
        thing_ids=channels.classes.thing_ids,
        ranking_map=ranking_map.float().softmax(dim=0),
        conflicts=find_conflicts(resized, places, "instances"),
        masks=resized,
        merge=merge,
    )
