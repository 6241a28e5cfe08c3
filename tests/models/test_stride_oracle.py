import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.models.max_deeplab.oracle import SlotStrideOracle
from deeplab2_d2.models.panoptic_deeplab.oracle import CenterStrideOracle
from deeplab2_d2.postprocessing import SlotOptions
from deeplab2_d2.structures import DatasetClasses

CLASSES = DatasetClasses(num_classes=2, thing_ids=(1,))


def _record(folder, ids):
    ids = ids.astype(np.uint8)
    Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], -1)).save(folder / "labels.png")
    segments = [(1, 0), (2, 1), (3, 1)]
    return {
        "pan_seg_file_name": str(folder / "labels.png"),
        "segments_info": [{"id": key, "category_id": category} for key, category in segments],
    }


@pytest.fixture
def record(tmp_path):
    """49 x 65: two cars (class 1) side by side on a road (class 0), at multiples of 4 pixels."""
    ids = np.ones((49, 65))
    ids[8:41, 8:29] = 2
    ids[8:41, 36:57] = 3
    return _record(tmp_path, ids)


def _oracle(**options):
    options = {"stuff_area_limit": 0, "nms_kernel": 5, **options}
    return CenterStrideOracle(CLASSES, **options)


def _iou(panoptic_map, label, truth):
    mask = panoptic_map.numpy() == label
    return (mask & truth).sum() / (mask | truth).sum()


def test_separate_instances_come_back_with_borders_as_sharp_as_the_stride(record):
    panoptic_map, segments_info = _oracle()([record])[0]["panoptic_seg"]
    assert segments_info is None
    assert np.unique(panoptic_map).tolist() == [0, 1001, 1002]
    truth = np.zeros((49, 65), bool)
    truth[8:41, 8:29] = True
    # The border moves by at most two of four pixels: 33 x 21 grows to at most 37 x 25.
    assert 33 * 21 / (37 * 25) < _iou(panoptic_map, 1001, truth) < 1.0


def test_stride_one_loses_nothing_here(record):
    panoptic_map, _ = _oracle(stride=1)([record])[0]["panoptic_seg"]
    truth = np.zeros((49, 65), bool)
    truth[8:41, 36:57] = True
    assert _iou(panoptic_map, 1002, truth) == 1.0


def test_instances_that_share_a_center_become_one(tmp_path):
    # A ring and what it surrounds have their center of mass at one point.
    ids = np.ones((49, 65))
    ids[8:41, 8:41] = 2
    ids[16:33, 16:33] = 3
    panoptic_map, _ = _oracle()([_record(tmp_path, ids)])[0]["panoptic_seg"]
    assert np.unique(panoptic_map).tolist() == [0, 1001]
    assert (panoptic_map == 1001)[16:33, 16:33].all()


def test_masks_keep_instances_apart_that_share_a_center(tmp_path):
    # The ring above: each segment has a slot of its own.
    ids = np.ones((49, 65))
    ids[8:41, 8:41] = 2
    ids[16:33, 16:33] = 3
    options = SlotOptions(thing_area_limit=16, stuff_area_limit=16)
    oracle = SlotStrideOracle(CLASSES, options=options)
    panoptic_map, _ = oracle([_record(tmp_path, ids)])[0]["panoptic_seg"]
    # Slot 0 is for void, 1 for the road, so the numbers within the class are 3 and 4.
    assert np.unique(panoptic_map).tolist() == [0, 1003, 1004]
    # The border moves by at most two of four pixels: 17 x 17 grows to at most 21 x 21.
    truth = ids == 3
    assert 17**2 / 21**2 < _iou(panoptic_map, 1004, truth) < 1.0
