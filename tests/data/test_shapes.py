import json
import os

import numpy as np
import pytest
from pycocotools import mask as mask_util

from deeplab2_d2.data.shapes import (
    ShapesOptions,
    prepare_shapes,
    shapes_categories,
    shapes_metadata,
)
from deeplab2_d2.data.shapes_scene import STUFF_NAMES, THING_NAMES, SceneOptions, draw_scene
from deeplab2_d2.structures import read_panoptic_png


def _files(folder):
    return {
        os.path.relpath(os.path.join(path, name), folder): open(
            os.path.join(path, name), "rb"
        ).read()
        for path, _, names in os.walk(folder)
        for name in names
    }


def _json(folder, name):
    return json.loads((folder / "annotations" / f"{name}.json").read_text())


def test_equal_options_write_equal_files(tmp_path, shapes_folder, shapes_options):
    prepare_shapes(str(tmp_path / "again"), shapes_options)
    assert _files(tmp_path / "again") == _files(shapes_folder)


def test_another_seed_and_the_other_split_draw_other_images(shapes_folder):
    images = {
        name: content for name, content in _files(shapes_folder).items() if name.endswith(".jpg")
    }
    assert len(set(images.values())) == len(images) == 6
    first = draw_scene(SceneOptions(), np.random.default_rng([0, 0, 0]))
    other = draw_scene(SceneOptions(), np.random.default_rng([1, 0, 0]))
    assert not np.array_equal(first.image, other.image)


def test_a_longer_set_begins_with_the_shorter_one(tmp_path, shapes_folder, shapes_options):
    longer = ShapesOptions(num_train=5, num_val=2, seed=3, scene=shapes_options.scene)
    prepare_shapes(str(tmp_path / "longer"), longer)
    for name in ("train/000003.jpg", "panoptic_train/000003.png", "val/000001.jpg"):
        assert (tmp_path / "longer" / name).read_bytes() == (shapes_folder / name).read_bytes()


def test_there_are_four_things_and_three_stuff_classes_with_the_things_first():
    metadata = shapes_metadata()
    assert list(metadata["thing_dataset_id_to_contiguous_id"].values()) == [0, 1, 2, 3]
    assert list(metadata["stuff_dataset_id_to_contiguous_id"].values()) == [4, 5, 6]
    assert metadata["stuff_classes"] == list(THING_NAMES + STUFF_NAMES)


def test_a_fifth_of_the_things_is_partly_hidden_and_some_are_small():
    num_things = num_hidden = num_small = 0
    for k in range(60):
        scene = draw_scene(SceneOptions(), np.random.default_rng([0, 0, k]))
        for segment, area in zip(scene.segments, scene.visible_areas()):
            if segment.name in THING_NAMES and not segment.is_crowd:
                num_things += 1
                num_hidden += area < 0.95 * segment.full_area
                num_small += area < 256
                assert area >= 0.6 * segment.full_area
    assert num_hidden >= 0.2 * num_things
    assert num_small >= 0.05 * num_things


def test_the_mean_color_of_a_thing_does_not_tell_its_class():
    # A quarter would be right by chance; textures have more or less of their dark color.
    classes, colors = [], []
    for k in range(120):
        scene = draw_scene(SceneOptions(), np.random.default_rng([5, 0, k]))
        for index, segment in enumerate(scene.segments):
            if segment.name in THING_NAMES and not segment.is_crowd:
                classes.append(THING_NAMES.index(segment.name))
                colors.append(scene.image[scene.segment_map == index + 1].mean(axis=0))
    classes, colors = np.array(classes), np.array(colors)
    means = np.array([colors[classes == k].mean(axis=0) for k in range(4)])
    nearest = np.linalg.norm(colors[:, None] - means, axis=2).argmin(axis=1)
    assert np.mean(nearest == classes) < 0.5


def test_the_png_has_the_areas_and_boxes_of_the_json(shapes_folder):
    annotations = _json(shapes_folder, "panoptic_train")["annotations"]
    for annotation in annotations:
        ids = read_panoptic_png(str(shapes_folder / "panoptic_train" / annotation["file_name"]))
        listed = {segment["id"] for segment in annotation["segments_info"]}
        assert listed == set(np.unique(ids).tolist()) - {0}
        for segment in annotation["segments_info"]:
            ys, xs = np.nonzero(ids == segment["id"])
            x, y, width, height = segment["bbox"]
            assert segment["area"] == len(ys)
            assert (y, y + height - 1, x, x + width - 1) == (ys.min(), ys.max(), xs.min(), xs.max())
    assert any(s["iscrowd"] for a in annotations for s in a["segments_info"])


def test_instance_masks_are_the_visible_pixels_of_the_things(shapes_folder):
    panoptic = _json(shapes_folder, "panoptic_val")
    instances = _json(shapes_folder, "instances_val")
    things = {c["id"] for c in shapes_categories() if c["isthing"]}
    segments = [
        (annotation, segment)
        for annotation in panoptic["annotations"]
        for segment in annotation["segments_info"]
        if segment["category_id"] in things
    ]
    assert len(segments) == len(instances["annotations"]) > 0
    assert [a["id"] for a in instances["annotations"]] == list(range(1, len(segments) + 1))
    for (annotation, segment), instance in zip(segments, instances["annotations"]):
        ids = read_panoptic_png(str(shapes_folder / "panoptic_val" / annotation["file_name"]))
        assert np.array_equal(mask_util.decode(instance["segmentation"]), ids == segment["id"])
        for key in ("category_id", "iscrowd", "area"):
            assert instance[key] == segment[key]


def test_ground_truth_as_prediction_scores_100_in_the_official_evaluation(shapes_folder):
    pq = pytest.importorskip("panopticapi.evaluation")
    json_file = shapes_folder / "annotations" / "panoptic_val.json"
    folder = str(shapes_folder / "panoptic_val")
    result = pq.pq_compute(str(json_file), str(json_file), folder, folder)
    assert result["All"]["pq"] == 1.0


def test_the_statistics_count_what_is_in_the_json(shapes_folder):
    info = json.loads((shapes_folder / "info.json").read_text())
    segments = [
        s for a in _json(shapes_folder, "panoptic_train")["annotations"] for s in a["segments_info"]
    ]
    things = [s for s in segments if s["category_id"] <= len(THING_NAMES)]
    assert info["train"]["num_crowds"] == sum(s["iscrowd"] for s in things)
    assert info["train"]["num_things"] == sum(not s["iscrowd"] for s in things)
    assert sum(info["train"]["segments_per_class"].values()) == len(segments)


def test_a_complete_set_is_used_as_it_is(shapes_folder, shapes_options):
    before = {name: os.stat(shapes_folder / name).st_mtime_ns for name in _files(shapes_folder)}
    info = prepare_shapes(str(shapes_folder), shapes_options)
    assert info == json.loads((shapes_folder / "info.json").read_text())
    after = {name: os.stat(shapes_folder / name).st_mtime_ns for name in _files(shapes_folder)}
    assert before == after


def test_a_folder_with_other_options_or_other_content_is_refused(tmp_path, shapes_folder):
    with pytest.raises(ValueError, match=f"{shapes_folder} holds a shapes dataset with options"):
        prepare_shapes(str(shapes_folder), ShapesOptions(num_train=1, num_val=1))
    with pytest.raises(ValueError, match="has no info.json"):
        prepare_shapes(str(tmp_path), ShapesOptions(num_train=1, num_val=1))


def test_an_interrupted_run_leaves_no_folder_of_the_final_name(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("deeplab2_d2.data.generated.write_instances", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_shapes(str(tmp_path / "shapes"), ShapesOptions(num_train=1, num_val=1))
    assert not (tmp_path / "shapes").exists()


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: ShapesOptions(num_train=0), "num_train"),
        (lambda: ShapesOptions(seed=-1), "seed"),
        (lambda: SceneOptions(height=10), "height"),
        (lambda: SceneOptions(num_things=(3, 2)), "num_things"),
    ],
)
def test_a_wrong_option_is_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()
