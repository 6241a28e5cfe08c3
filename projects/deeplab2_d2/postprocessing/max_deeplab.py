"""MaX-DeepLab post-processing: mask slots to panoptic labels of the original image."""

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

from .. import ops
from ..ops import SlotSegmentation
from .geometry import FrameGeometry, Size

MODES = ("pixelwise", "maskwise")


@dataclass(frozen=True)
class MaXDeepLabPostprocessing:
    """
    How slots become segments. The defaults are those of DeepLab2's ``EvaluatorOptions``.

    Attributes:
        mode: "pixelwise": each pixel to the slot of its largest logit, as in the paper;
            "maskwise": one mask after the other is pasted, the best first.
        class_confidence_threshold: pixel-wise: slots whose class is less probable are void.
        mask_confidence_threshold: pixels whose slot is no more probable than this are void;
            mask-wise at least 0.334.
        thing_class_threshold, stuff_class_threshold: mask-wise: the class threshold for slots of
            things and of stuff.
        overlap_threshold: mask-wise: a mask of which no more than this part is free is left out.
        class_weight, mask_weight: mask-wise: masks are ordered by
            ``class_confidence ** class_weight * mean_mask_confidence ** mask_weight``.
        thing_area_limit, stuff_area_limit: smaller things and stuff segments become void; pixels of
            the output.
    """

    mode: str = "pixelwise"
    class_confidence_threshold: float = 0.7
    mask_confidence_threshold: float = 0.4
    thing_class_threshold: float = 0.7
    stuff_class_threshold: float = 0.7
    overlap_threshold: float = 0.5
    class_weight: float = 1.0
    mask_weight: float = 0.0
    thing_area_limit: int = 0
    stuff_area_limit: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {self.mode!r}")
        for name in ("class_weight", "mask_weight", "thing_area_limit", "stuff_area_limit"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def class_thresholds(self) -> Tuple[float, float]:
        """For things and for stuff, in this mode."""
        if self.mode == "pixelwise":
            return self.class_confidence_threshold, self.class_confidence_threshold
        return self.thing_class_threshold, self.stuff_class_threshold


def things_then_stuff(num_classes: int, thing_ids: Sequence[int]) -> Tuple[int, ...]:
    """
    The class id of each channel of MaX-DeepLab's class head, without the void channel.

    The channels are the things in the order of ``thing_ids``, then the other classes by their id,
    as in DeepLab2. Of Detectron2's COCO classes this is the identity.
    """
    things = tuple(thing_ids)
    return (*things, *(c for c in range(num_classes) if c not in things))


def panoptic_from_mask_slots(
    mask_logits: Tensor,
    class_logits: Tensor,
    *,
    thing_ids: Sequence[int],
    label_divisor: int,
    output_size: Size,
    input_size: Optional[Size] = None,
    image_size: Optional[Size] = None,
    options: MaXDeepLabPostprocessing = MaXDeepLabPostprocessing(),
    channel_to_class: Optional[Sequence[int]] = None,
) -> SlotSegmentation:
    """
    Panoptic labels of a batch of images that share their sizes.

    Reference: MaX-DeepLab (arXiv:2012.00759), Sec. 3.1 and 4; DeepLab2's
    ``model/post_processor/max_deeplab.py``, whose maps these are where the three sizes are one. The
    number of a thing within its class is, as there, its slot + 1 (mask-wise: its place in the order
    of pasting + 1), so numbers have gaps. We differ in void, which is -1, and mask-wise in that
    padding does not count in the order of the masks. No step waits for the GPU.

    Args:
        mask_logits: (N, S, h, w) float, at stride 4 of the network input.
        class_logits: (N, S, C + 1) float; the channels are the things in the order of
            ``thing_ids``, then the other classes by their id, and last void.
        thing_ids: contiguous ids of the classes that have instances.
        label_divisor: panoptic label = class * label_divisor + number; more than S.
        output_size: (H, W) of the original image.
        input_size: (H, W) of the padded network input, which the masks cover; None: ``image_size``.
        image_size: (H, W) of the image within the network input, at its upper left; None:
            ``input_size`` or, if that is None too, ``output_size``.
        options: thresholds, limits and mode.
        channel_to_class: other class ids of the C channels.

    Raises:
        ValueError: if an argument is not as above.
    """
    if channel_to_class is None:
        channel_to_class = things_then_stuff(class_logits.shape[-1] - 1, thing_ids)
    image_size = image_size or input_size or output_size
    geometry = FrameGeometry(
        map_size=(mask_logits.shape[-2], mask_logits.shape[-1]),
        input_size=input_size or image_size,
        image_size=image_size,
        output_size=output_size,
    )
    return ops.panoptic_from_slots(
        mask_logits,
        class_logits,
        channel_to_class=channel_to_class,
        thing_ids=thing_ids,
        size=output_size,
        scale=geometry.output_to_map,
        label_divisor=label_divisor,
        is_mask_wise=options.mode == "maskwise",
        class_thresholds=options.class_thresholds,
        mask_threshold=options.mask_confidence_threshold,
        overlap_threshold=options.overlap_threshold,
        rank_weights=(options.class_weight, options.mask_weight),
        area_limits=(options.thing_area_limit, options.stuff_area_limit),
    )


def slot_semantic_scores(semantic_map: Tensor, num_classes: int) -> Tensor:
    """
    A semantic map as Detectron2's ``sem_seg``, whose arg-max it is.

    Args:
        semantic_map: (H, W) int32 class ids, of a :class:`SlotSegmentation`.

    Returns:
        (num_classes, H, W) float32: 1 for the class of the pixel, else 0.
    """
    classes = torch.arange(num_classes, dtype=semantic_map.dtype, device=semantic_map.device)
    return (semantic_map[None] == classes[:, None, None]).float()
