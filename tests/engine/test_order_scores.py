"""The same detections in three orders: matched, counted and scored by hand."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as mask_util

from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.engine.demo_ranking import check_has_order, format_scores
from deeplab2_d2.engine.order_scores import (
    Pair,
    find_pairs,
    match_things,
    read_layers,
    score_orders,
    true_ranks,
)
from deeplab2_d2.engine.rank_maps import describe_pair, explain_pair
from deeplab2_d2.engine.ranked_images import check_ranks
from deeplab2_d2.models.oanet import merge_instances_and_stuff
from deeplab2_d2.records import RankedImage
from deeplab2_d2.structures import DatasetClasses

# Stuff 0, things 1 and 2.
CLASSES = DatasetClasses.from_metadata(
    {
        "thing_dataset_id_to_contiguous_id": {1: 1, 2: 2},
        "stuff_dataset_id_to_contiguous_id": {0: 0, 1: 1, 2: 2},
        "stuff_classes": ["ground", "disc", "star"],
        "ignore_label": 255,
        "label_divisor": 1000,
    }
)


def row(first, last, width=10):
    """(2, width): True in the upper row from the first to the last column."""
    mask = torch.zeros(2, width, dtype=torch.bool)
    mask[0, first : last + 1] = True
    return mask


def make_image(masks, classes, scores, ranks, probability=None):
    """Of instances over ground."""
    instances = Instances(masks[0].shape)
    instances.pred_masks = torch.stack(masks)
    instances.pred_classes, instances.scores = torch.tensor(classes), torch.tensor(scores)
    stuff_map = torch.zeros(masks[0].shape, dtype=torch.int64)

    def merge(given, overlap_threshold=None):
        threshold = 0.5 if overlap_threshold is None else overlap_threshold
        return merge_instances_and_stuff(
            instances,
            stuff_map,
            stuff_ids=(0,),
            rank_scores=given,
            overlap_threshold=threshold,
            stuff_area_limit=1,
        )

    return RankedImage(
        instances=instances,
        rank_scores=torch.tensor(ranks),
        thing_ids=(1, 2),
        ranking_map=torch.zeros(2, *masks[0].shape) if probability is None else probability,
        conflicts=torch.stack(masks).sum(dim=0) > 1,
        masks=instances.pred_masks,
        merge=merge,
    )


def make_record(folder, masks, classes):
    """Painted in the order given, over ground."""
    ids = np.ones((2, 10), np.uint8)
    annotations = []
    for place, (mask, k) in enumerate(zip(masks, classes)):
        ids[mask.numpy()] = place + 2
        rle = mask_util.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        annotations.append({"segmentation": rle, "category_id": k - 1, "paint_order": place})
    path = folder / "truth.png"
    Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=-1)).save(path)
    segments = [{"id": i + 1, "category_id": k} for i, k in enumerate([0, *classes])]
    return {
        "file_name": "a.jpg",
        "height": 2,
        "width": 10,
        "annotations": annotations,
        "segments_info": segments,
        "pan_seg_file_name": str(path),
    }


def test_a_detection_has_the_place_of_the_thing_that_it_covers_by_more_than_half():
    truth = torch.stack([row(0, 3), row(6, 9)])
    # 3 of 4 pixels; 2 of 4, which is not more than half; 4 of 5.
    found = torch.stack([row(0, 2), row(6, 7), row(5, 9)])
    matched = match_things(found, truth)
    assert matched.tolist() == [0, -1, 1]
    assert true_ranks(matched, torch.tensor([1, 0])).tolist() == [1, -1, 0]
    assert match_things(found[:0], truth).tolist() == []
    assert match_things(found, truth[:0]).tolist() == [-1, -1, -1]


def test_pairs_share_pixels_in_truth_and_detection_and_are_of_two_things():
    truth = torch.stack([row(0, 3), row(3, 7), row(7, 9)])
    masks = torch.stack([row(0, 3), row(3, 7), row(0, 2), row(8, 9)])
    # 0 and 1 are a pair; 2 is the thing of 0 again; 3 does not touch 1, although the things do.
    matched = torch.tensor([0, 1, 0, 2])
    assert find_pairs(masks, matched, truth, [0, 1, 0]) == [Pair(0, 1, False)]
    assert find_pairs(masks, matched, truth, [0, 0, 0]) == [Pair(0, 1, True)]


def test_three_orders_of_a_star_on_a_disc_by_hand(tmp_path):
    # A star at columns 4..9 on a disc at 0..6, found perfectly. The detector is surer of the disc.
    masks, classes = [row(0, 6), row(4, 9)], [1, 2]
    image = make_image(masks, classes, scores=[0.9, 0.8], ranks=[0.3, 0.7])
    scores = score_orders([(make_record(tmp_path, masks, classes), image)], CLASSES)
    # With the disc on top: it shows 7 pixels for 4, IoU 4/7; the star 3 of 6, IoU 0.5, no match.
    assert scores["detection"].quality["all"]["PQ_th"] == pytest.approx(100 * (4 / 7 + 0) / 2)
    assert scores["detection"].part_right(False) == 0
    for order in ("module", "truth"):
        assert scores[order].quality["all"] == {"PQ": 100, "PQ_th": 100, "PQ_st": 100}
        assert scores[order].part_right(False) == 100
    for found in scores.values():
        assert found.quality["off"]["PQ_st"] == 100
        # No image has a pair of one class.
        assert found.quality["two classes"] == found.quality["all"]
        assert np.isnan(found.part_right(True))
    # 100 - 100 * (1 + 4/7 + 0) / 3 in PQ, 100 - 100 * (4/7 + 0) / 2 in that of things.
    text = format_scores(scores)
    assert "all images, PQ: the module recovers 100 % of the distance of 47.6 " in text
    assert "all images, PQ_th: the module recovers 100 % of the distance of 71.4 " in text
    assert "1 of two classes, 0 of one class" in text


def test_images_with_a_conflict_in_a_class_are_left_out_of_the_third_score(tmp_path):
    masks, classes = [row(0, 6), row(4, 9)], [1, 1]
    image = make_image(masks, classes, scores=[0.9, 0.8], ranks=[0.5, 0.5])
    scores = score_orders([(make_record(tmp_path, masks, classes), image)], CLASSES)
    assert "two classes" not in scores["module"].quality
    # A tie of the ranking goes to the detection score, which is wrong here.
    assert dict(scores["module"].wrong) == {True: 1} and dict(scores["truth"].right) == {True: 1}


def test_a_dataset_without_an_order_is_refused(tmp_path):
    record = make_record(tmp_path, [row(0, 6)], [1])
    del record["annotations"][0]["paint_order"]
    with pytest.raises(ValueError, match=r"a.jpg: annotation None must have paint_order, got"):
        read_layers(record)


def test_why_a_star_lies_on_a_disc():
    # On top at the three shared pixels: the star with 0.9, 0.8, 0.7, mean 0.8.
    star = torch.full((2, 10), 0.5)
    star[0, 4:7] = torch.tensor([0.9, 0.8, 0.7])
    masks = [row(0, 6), row(4, 9)]
    image = make_image(masks, [1, 2], [0.9, 0.8], [0.3, 0.7], torch.stack([1 - star, star]))
    reason = explain_pair(image, 0, 1)
    assert (reason.above, reason.below, reason.num_shared) == (1, 0, 3)
    assert reason.above_on_top == pytest.approx(0.8) and reason.below_on_top == pytest.approx(0.2)
    assert reason.is_against_scores and not reason.is_one_class
    assert describe_pair(image, CLASSES.names, reason) == (
        "1 (star) lies on 0 (disc): ranking score 0.700 over 0.300; at 3 shared pixels it is on "
        "top with 0.800, the other with 0.200; detection scores would turn them round"
    )
    with pytest.raises(ValueError, match=r"two different instances of 0..1, got 1 and 2"):
        explain_pair(image, 1, 2)


def test_a_model_that_orders_nothing_is_refused():
    with pytest.raises(ConfigError, match="META_ARCHITECTURE must be a model that orders .*'Gen"):
        check_ranks(load_config())


@pytest.mark.parametrize("annotations", ({}, {"annotations": [{"id": 3}]}))
def test_the_demo_refuses_a_dataset_without_an_order_before_it_trains(annotations):
    DatasetCatalog.register("order_test", lambda: [{"file_name": "a.jpg", **annotations}])
    try:
        with pytest.raises(ConfigError, match="paint_order, got 'order_test' without, at a.jpg"):
            check_has_order("order_test")
    finally:
        DatasetCatalog.remove("order_test")
