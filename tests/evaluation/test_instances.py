import json

import pytest
import torch
from detectron2.data import MetadataCatalog

from deeplab2_d2.evaluation import GroundTruthPredictor, PanopticInstanceEvaluator
from deeplab2_d2.evaluation.instances import _write_instances


def _truth(records):
    return GroundTruthPredictor(num_classes=3, thing_ids={0, 2})(records)


def test_ground_truth_scores_100_with_things_that_are_not_the_first_ids(
    tiny_dataset, tiny_records, run
):
    evaluator = PanopticInstanceEvaluator(tiny_dataset, tasks=("segm", "bbox"))
    scores = run(evaluator, tiny_records, _truth(tiny_records))
    for task in ("segm", "bbox"):
        assert scores[task]["AP"] == pytest.approx(100.0)
        assert scores[task]["AP-cat"] == pytest.approx(100.0)
        assert scores[task]["AP-dog"] == pytest.approx(100.0)


def test_instance_on_a_crowd_is_neither_right_nor_wrong(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    instances = outputs[1]["instances"]
    crowd = torch.zeros(1, 4, 6, dtype=torch.bool)
    crowd[:, 2:, 3:5] = True
    instances_with_crowd = type(instances)(instances.image_size)
    instances_with_crowd.pred_masks = torch.cat([instances.pred_masks, crowd])
    instances_with_crowd.pred_boxes = type(instances.pred_boxes)(
        torch.cat([instances.pred_boxes.tensor, torch.tensor([[3.0, 2.0, 5.0, 4.0]])])
    )
    instances_with_crowd.scores = torch.ones(2)
    instances_with_crowd.pred_classes = torch.tensor([0, 2])
    outputs[1]["instances"] = instances_with_crowd
    scores = run(PanopticInstanceEvaluator(tiny_dataset), tiny_records, outputs)
    assert scores["segm"]["AP"] == pytest.approx(100.0)


def test_confident_mistake_halves_precision(tiny_dataset, tiny_records, run):
    # Dog of image one: a wrong mask is ranked above the right one.
    outputs = _truth(tiny_records)
    instances = outputs[0]["instances"]
    dog = instances[instances.pred_classes == 2]
    wrong = dog[torch.tensor([0])]
    wrong.pred_masks = torch.zeros_like(dog.pred_masks)
    wrong.pred_masks[:, 0, 0] = True
    dog.scores = torch.tensor([0.5])
    outputs[0]["instances"] = type(instances).cat(
        [instances[instances.pred_classes == 0], dog, wrong]
    )
    scores = run(PanopticInstanceEvaluator(tiny_dataset), tiny_records, outputs)["segm"]
    assert scores["AP-dog"] == pytest.approx(50.0)
    assert scores["AP-cat"] == pytest.approx(100.0)


def test_outputs_keep_their_contiguous_classes(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    run(PanopticInstanceEvaluator(tiny_dataset), tiny_records, outputs)
    assert outputs[0]["instances"].pred_classes.tolist() == [0, 2]


def test_stuff_among_the_instances_is_refused(tiny_dataset, tiny_records):
    evaluator = PanopticInstanceEvaluator(tiny_dataset)
    evaluator.reset()
    outputs = _truth(tiny_records)
    outputs[0]["instances"].pred_classes = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"contiguous ids of things, got \[1\]"):
        evaluator.process(tiny_records, outputs)


def test_model_that_finds_nothing_has_no_score(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    for output in outputs:
        output["instances"] = output["instances"][:0]
    scores = run(PanopticInstanceEvaluator(tiny_dataset), tiny_records, outputs)
    assert all(score != score for score in scores["segm"].values())


def test_ground_truth_that_would_end_the_process_is_refused_at_the_start(tiny_dataset, tmp_path):
    # pycocotools would read it after the last image, and die of the coordinate.
    polygon = [0.0, 0.0, 5.0, 0.0, 5.0, 1e9]
    annotation = {"id": 5, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1}
    content = {
        "images": [{"id": 1, "height": 4, "width": 6}],
        "annotations": [{**annotation, "bbox": [0, 0, 1, 1], "segmentation": [polygon]}],
        "categories": [],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    MetadataCatalog.get(tiny_dataset).set(json_file=str(path))
    with pytest.raises(ValueError, match="instances.json: annotation 5 of image_id 1: coordinates"):
        PanopticInstanceEvaluator(tiny_dataset)


def test_what_the_instances_json_leaves_out_is_worked_out(
    tmp_path, tiny_dataset, tiny_records, run
):
    expected = run(PanopticInstanceEvaluator(tiny_dataset), tiny_records, _truth(tiny_records))
    _write_instances(tiny_dataset, str(tmp_path / "instances.json"))
    content = json.loads((tmp_path / "instances.json").read_text())
    for annotation in content["annotations"]:
        del annotation["area"]
        if not annotation["iscrowd"]:
            del annotation["iscrowd"]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    metadata = vars(MetadataCatalog.get(tiny_dataset))
    before = metadata.get("json_file")
    metadata["json_file"] = str(tmp_path / "instances.json")
    try:
        found = run(PanopticInstanceEvaluator(tiny_dataset), tiny_records, _truth(tiny_records))
        assert str(found) == str(expected) and found["segm"]["AP"] == pytest.approx(100.0)
        del content["annotations"][0]["image_id"]
        (tmp_path / "instances.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="instances.json: .*must have 'image_id'"):
            PanopticInstanceEvaluator(tiny_dataset)
    finally:
        metadata["json_file"] = before
