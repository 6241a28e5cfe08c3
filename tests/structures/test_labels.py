"""Panoptic labels, and the classes of a semantic head's channels."""

import numpy as np
import pytest
import torch

from deeplab2_d2.structures import (
    ClassMap,
    decode_panoptic,
    deeplab2_coco_class_map,
    encode_panoptic,
)


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_label_is_class_times_divisor_plus_instance_and_back(make):
    semantic, instance = make([2, 0, -1]), make([7, 0, 0])
    panoptic = encode_panoptic(semantic, instance, 1000)
    assert panoptic.tolist() == [2007, 0, -1]
    classes, numbers = decode_panoptic(panoptic, 1000)
    assert classes.tolist() == [2, 0, -1] and numbers.tolist() == [7, 0, 0]


def test_instance_that_does_not_fit_the_divisor_is_refused():
    with pytest.raises(ValueError, match=r"instance must be in \[0, 10\), got 10"):
        encode_panoptic(torch.tensor([1]), torch.tensor([10]), 10)


def test_coco_channels_are_void_and_then_the_contiguous_ids():
    class_map = deeplab2_coco_class_map()
    assert (class_map.num_channels, class_map.num_classes) == (134, 133)
    assert class_map.apply(torch.tensor([0, 1, 133])).tolist() == [-1, 0, 132]


def test_class_ids_must_increase():
    with pytest.raises(ValueError, match="channel_to_class must increase"):
        ClassMap((1, 0))
