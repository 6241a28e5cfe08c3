"""The bound of masks in boxes and of stuff at a stride, on truth drawn by hand."""

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image
from tiny_oanet import DATASET, register_classes

from deeplab2_d2.models.oanet.oracle import BranchOracle
from deeplab2_d2.structures import DatasetClasses

HEIGHT, WIDTH = 56, 64


def predict(tmp_path, ids, categories, **options):
    """Segment ids (H, W) and the class of each id, to (map of classes, segments)."""
    register_classes()
    path = tmp_path / "truth.png"
    Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=2).astype(np.uint8)).save(path)
    record = {
        "file_name": "a.jpg",
        "pan_seg_file_name": str(path),
        "height": ids.shape[0],
        "width": ids.shape[1],
        "segments_info": [{"id": k, "category_id": c} for k, c in categories.items()],
    }
    classes = DatasetClasses.from_metadata(MetadataCatalog.get(DATASET))
    sizes = {"grid": 28, "stride": 4, "short_edge": 0, "long_edge": 0, "stuff_area_limit": 1}
    (output,) = BranchOracle(classes, **{**sizes, **options})([record])
    segment_map, segments = output["panoptic_seg"]
    found = {s["id"]: s["category_id"] for s in segments}
    return np.vectorize(lambda k: found.get(k, -1))(segment_map.numpy()), segments


def test_what_lies_on_both_grids_comes_back_whole(tmp_path):
    # The things' boxes of 28 and 56 pixels are one and two pixels a cell of the mask head's grid.
    ids = np.full((HEIGHT, WIDTH), 1)
    ids[:, 32:] = 2
    ids[:28, :28] = 3
    ids[:56, 36:64] = 4
    categories = {1: 0, 2: 2, 3: 1, 4: 3}
    classes, segments = predict(tmp_path, ids, categories)
    truth = np.vectorize(categories.get)(ids)
    # A pixel beside the outline between two kinds of stuff is a blend of both.
    assert (classes[:, :28] == truth[:, :28]).all() and (classes[:, 36:] == truth[:, 36:]).all()
    assert sorted(s["category_id"] for s in segments) == [0, 1, 2, 3]


def test_stuff_of_less_than_a_cell_is_lost_and_things_of_that_size_are_not(tmp_path):
    ids = np.full((HEIGHT, WIDTH), 1)
    ids[8:11, 12:14] = 2
    ids[8:11, 32:34] = 3
    classes, segments = predict(tmp_path, ids, {1: 0, 2: 3, 3: 2})
    # Cells of 4 are sampled at their third pixel: row 10 and column 34 are not in the stuff.
    assert {s["category_id"] for s in segments} == {0, 3}
    assert (classes == 3).sum() == 6 and (classes[8:11, 12:14] == 3).all()


def test_a_smaller_input_loses_more_of_the_stuff_and_nothing_of_the_things(tmp_path):
    ids = np.full((HEIGHT, WIDTH), 1)
    ids[::2, 40:] = 2
    ids[10:38, 5:33] = 3
    truth = {1: 0, 2: 2, 3: 1}
    errors = []
    for short_edge in (4 * HEIGHT, HEIGHT):
        classes, _ = predict(
            tmp_path, ids, truth, short_edge=short_edge, long_edge=1000, is_stuff_connected=False
        )
        expected = np.vectorize(truth.get)(ids)
        assert (classes[ids == 3] == 1).all()
        errors.append(int((classes != expected).sum()))
    # At four times the size a cell is a pixel of the image; at its own the rows are not seen.
    assert errors[0] == 0 and errors[1] >= 600


def test_an_image_without_things_or_labels_is_merged(tmp_path):
    classes, segments = predict(tmp_path, np.zeros((9, 7), int), {})
    assert segments == [] and (classes == -1).all()
