"""What the operators return."""

from typing import NamedTuple

from torch import Tensor

# The value of void pixels in panoptic and semantic predictions.
VOID_PANOPTIC_LABEL = -1


class SegmentTable(NamedTuple):
    """
    One row for each segment that an image may have. The number of rows is fixed, so that no
    GPU synchronisation is needed to make it: a row whose area is 0 is not in the image.

    The first K rows are the instances, in the order of their centers (raster order); the other C
    rows are the stuff segments, in the order of their classes. S = K + C.

    Attributes:
        panoptic_label: (N, S) int32, the segment's value in the panoptic map; -1 if absent.
        category: (N, S) int32, contiguous class id; -1 if absent.
        area: (N, S) int32, pixels of the output.
        box: (N, S, 4) int32 ``(y_min, x_min, y_max, x_max)``, the last two exclusive, in pixels of
            the output; zeros if absent.
        objectness: (N, S) float32, the heatmap at the instance's center; 1 for stuff, 0 if absent.
            Of mask slots: see `SlotSegmentation`.
        class_probability: (N, S) float32, the mean over the segment of the softmax probability of
            its class; 0 if absent; NaN if the probabilities were not asked for.
    """

    panoptic_label: Tensor
    category: Tensor
    area: Tensor
    box: Tensor
    objectness: Tensor
    class_probability: Tensor


class PanopticSegmentation(NamedTuple):
    """
    Panoptic labels of a batch, at output resolution.

    Attributes:
        panoptic_map: (N, H, W) int32, ``semantic * label_divisor + instance``; -1 is void.
            Instances of a class are numbered from 1 in the order of their first pixels; stuff has
            number 0.
        semantic_map: (N, H, W) int32, class of the largest logit (not the vote); -1 is void.
        instance_map: (N, H, W) int32; ``k + 1`` where a thing pixel belongs to center ``k``, else
            0.
        centers: (N, K, 2) float32 ``(y, x)`` in pixels of the output, raster order; zeros beyond
            ``num_centers``.
        num_centers: (N,) int32.
        segments: the segments' classes, areas, boxes and scores.
    """

    panoptic_map: Tensor
    semantic_map: Tensor
    instance_map: Tensor
    centers: Tensor
    num_centers: Tensor
    segments: SegmentTable

    @property
    def num_instance_rows(self) -> int:
        """The first so many rows of the segment table are things."""
        return self.centers.shape[1]


class SlotSegmentation(NamedTuple):
    """
    Panoptic labels of a batch made from mask slots, at output resolution.

    In the segment table, the first S rows are the things, row s that of slot s, and the other C
    rows the stuff classes, each of all its slots together. ``objectness`` is the mean of
    ``mask_confidence`` over the segment, ``class_probability`` the mean of its pixels'
    ``class_confidence``: their product is the segment's score.

    Attributes:
        panoptic_map: (N, H, W) int32, ``class * label_divisor + number``; -1 is void. The number of
            a thing is ``slot_rank + 1``, that of stuff 0.
        semantic_map: (N, H, W) int32, class of the slot of the largest logit, of all slots: no
            threshold and no limit applies.
        slot_map: (N, H, W) int32, the slot that the pixel was given before the limits on area; -1
            for none. Pixel-wise, pixels below the mask threshold have a slot too.
        mask_confidence: (N, H, W) float32, the largest softmax probability of a slot; pixel-wise of
            the slots whose class is confident. 0 if no slot of the image has a confident class;
            mask-wise, if none has one of at least the lower of the two thresholds.
        class_confidence: (N, S) float32, softmax probability of the slot's class.
        slot_rank: (N, S) int32: mask-wise the place of the slot in the order of pasting; pixel-wise
            the slot itself.
        segments: the segments' classes, areas, boxes and scores.
        segment_slot: (N, S + C) int32, the slot of the most pixels of a segment, the first of
            equal ones; -1 if the segment is absent.
    """

    panoptic_map: Tensor
    semantic_map: Tensor
    slot_map: Tensor
    mask_confidence: Tensor
    class_confidence: Tensor
    slot_rank: Tensor
    segments: SegmentTable
    segment_slot: Tensor

    @property
    def num_instance_rows(self) -> int:
        """The first so many rows of the segment table are things."""
        return self.class_confidence.shape[1]


class TargetMaps(NamedTuple):
    """
    Attributes:
        sem_seg: (H, W) int64.
        sem_seg_weights: (H, W) float32.
        center_heatmap: (H, W) float32.
        center_weights: (H, W) float32.
        center_offsets: (2, H, W) float32 ``(dy, dx)``.
        offset_weights: (H, W) float32.
    """

    sem_seg: Tensor
    sem_seg_weights: Tensor
    center_heatmap: Tensor
    center_weights: Tensor
    center_offsets: Tensor
    offset_weights: Tensor
