"""Facts of the written files of shapes_layers; the drawing itself is not asked."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_util

from deeplab2_d2.data.shapes_layers import ShapesLayersOptions, prepare_shapes_layers
from deeplab2_d2.data.shapes_layers_scene import LayersOptions
from deeplab2_d2.structures import read_panoptic_png

# Of the JSON's categories: a greater one lies above.
_THINGS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets") / "shapes_layers"
    prepare_shapes_layers(str(folder), ShapesLayersOptions(num_train=120, num_val=3))
    return folder


@pytest.fixture(scope="module")
def images(folder):
    """Of each training image: its annotations, their masks, and its panoptic annotation."""
    instances = _json(folder, "instances_train")
    panoptic = _json(folder, "panoptic_train")["annotations"]
    assert [image["id"] for image in instances["images"]] == [a["image_id"] for a in panoptic]
    result = []
    for annotation in panoptic:
        of_image = [a for a in instances["annotations"] if a["image_id"] == annotation["image_id"]]
        masks = [mask_util.decode(a["segmentation"]).astype(bool) for a in of_image]
        result.append((of_image, masks, annotation))
    return result


def _json(folder, name):
    return json.loads((folder / "annotations" / f"{name}.json").read_text())


def _pairs(annotations, masks):
    """Overlapping annotations."""
    return [
        (annotations[i], annotations[k])
        for k in range(len(masks))
        for i in range(k)
        if (masks[i] & masks[k]).any()
    ]


def test_more_than_a_third_of_the_things_overlaps_another(images):
    num_things = sum(len(annotations) for annotations, _, _ in images)
    overlapping = {a["id"] for image in images for pair in _pairs(*image[:2]) for a in pair}
    assert num_things > 4 * len(images)
    assert len(overlapping) > num_things / 3


def test_nine_of_ten_pairs_of_two_classes_are_in_the_order_of_the_classes(images):
    pairs = [pair for image in images for pair in _pairs(*image[:2])]
    of_two = [(a, b) for a, b in pairs if a["category_id"] != b["category_id"]]
    in_order = [
        (a["paint_order"] > b["paint_order"]) == (a["category_id"] > b["category_id"])
        for a, b in of_two
    ]
    # Some 340 pairs, those of a group alike: the standard deviation is 0.02.
    assert len(of_two) > 250 and 0.84 < np.mean(in_order) < 0.96
    assert len(of_two) < len(pairs)


def test_whatever_overlaps_does_so_with_three_tenths_of_the_smaller_of_two(images):
    for annotations, masks, _ in images:
        most = {a["id"]: 0.0 for pair in _pairs(annotations, masks) for a in pair}
        for a, b in _pairs(annotations, masks):
            first, second = (masks[annotations.index(x)] for x in (a, b))
            part = (first & second).sum() / min(first.sum(), second.sum())
            for annotation in (a, b):
                most[annotation["id"]] = max(most[annotation["id"]], part)
        assert all(part >= 0.3 for part in most.values())


def test_painting_the_whole_masks_in_their_order_gives_the_panoptic_map(folder, images):
    for annotations, masks, panoptic in images:
        painted = np.zeros(masks[0].shape, int)
        order = np.argsort([a["paint_order"] for a in annotations])
        assert sorted(a["paint_order"] for a in annotations) == list(range(len(annotations)))
        for k in order:
            painted[masks[k]] = k + 1
        ids = read_panoptic_png(str(folder / "panoptic_train" / panoptic["file_name"]))
        categories = {s["id"]: s["category_id"] for s in panoptic["segments_info"]}
        seen = [segment for segment in categories if categories[segment] in _THINGS]
        assert len(seen) == len(annotations)
        for k, annotation in enumerate(annotations):
            (segment,) = np.unique(ids[painted == k + 1])
            assert categories[segment] == annotation["category_id"]
            assert np.array_equal(ids == segment, painted == k + 1)
            assert (painted == k + 1).sum() >= 0.4 * masks[k].sum()
        assert not np.isin(ids[painted == 0], seen).any()


def test_things_are_whole_and_their_boxes_and_areas_are_those_of_the_masks(images):
    for annotations, masks, _ in images:
        for annotation, mask in zip(annotations, masks):
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert annotation["bbox"] == box and annotation["area"] == len(ys) > 600
            # None is cut off by the border of the image.
            assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def test_the_statistics_say_the_same(folder, images):
    statistics = json.loads((folder / "info.json").read_text())["train"]
    pairs = [pair for image in images for pair in _pairs(*image[:2])]
    same = sum(a["category_id"] == b["category_id"] for a, b in pairs)
    assert statistics["num_same_class_pairs"] == same
    assert statistics["num_pairs"] == len(pairs) - same
    overlapping = {a["id"] for pair in pairs for a in pair}
    expected = len(overlapping) / sum(len(annotations) for annotations, _, _ in images)
    assert statistics["overlapping_fraction"] == pytest.approx(expected, abs=1e-4)


def test_equal_options_write_equal_files_and_a_longer_set_begins_with_the_shorter_one(
    tmp_path, folder
):
    prepare_shapes_layers(str(tmp_path / "a"), ShapesLayersOptions(num_train=3, num_val=3))
    for name in ("train/000002.jpg", "panoptic_train/000002.png", "val/000002.jpg"):
        assert (tmp_path / "a" / name).read_bytes() == (folder / name).read_bytes()
    for name in ("instances_val", "panoptic_val"):
        assert _json(tmp_path / "a", name) == _json(folder, name)


def test_without_exceptions_every_pair_is_in_the_order_of_the_classes(tmp_path):
    scene = LayersOptions(exception_probability=0.0)
    options = ShapesLayersOptions(num_train=8, num_val=1, scene=scene)
    info = prepare_shapes_layers(str(tmp_path / "set"), options)
    assert info["train"]["num_pairs"] > 0
    assert info["train"]["in_class_order_fraction"] == 1.0


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: ShapesLayersOptions(num_val=0), "num_val"),
        (lambda: ShapesLayersOptions(seed=-1), "seed"),
        (lambda: LayersOptions(height=100), "height"),
        (lambda: LayersOptions(num_groups=(3, 2)), "num_groups"),
        (lambda: LayersOptions(radius=(0.0, 9.0)), "radius"),
        (lambda: LayersOptions(exception_probability=1.5), "exception_probability"),
    ],
)
def test_a_wrong_option_is_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()
