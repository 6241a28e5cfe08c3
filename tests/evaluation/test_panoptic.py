import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog

from deeplab2_d2.evaluation import (
    GroundTruthPredictor,
    OnTheFlyPanopticEvaluator,
    PanopticQualityEvaluator,
)

pytest.importorskip("panopticapi")


def _truth(records):
    return GroundTruthPredictor(num_classes=3, thing_ids={0, 2})(records)


def test_ground_truth_with_a_crowd_scores_100(tiny_dataset, tiny_records, run):
    scores = run(PanopticQualityEvaluator(tiny_dataset), tiny_records, _truth(tiny_records))
    assert set(scores["panoptic_seg"].values()) == {100.0}
    assert {"PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st"} == set(
        scores["panoptic_seg"]
    )


def test_images_of_one_name_in_two_folders_are_kept_apart(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    renamed = [
        {**record, "file_name": f"{folder}/000000.png"}
        for record, folder in zip(tiny_records, ("0002", "0006"))
    ]
    scores = run(PanopticQualityEvaluator(tiny_dataset), renamed, outputs)
    assert set(scores["panoptic_seg"].values()) == {100.0}


def test_half_right_segments_score_their_overlap(tiny_dataset, tiny_records, run):
    # Grass of image one loses 4 of its 12 pixels to void: IoU 2/3; grass of image two is right.
    outputs = _truth(tiny_records)
    outputs[0]["panoptic_seg"][0][2:, :2] = 0
    evaluator = PanopticQualityEvaluator(tiny_dataset, per_class=True)
    scores = run(evaluator, tiny_records, outputs)["panoptic_seg"]
    assert scores["PQ_st"] == pytest.approx(100 * (8 / 12 + 1) / 2)
    assert scores["RQ_st"] == 100.0
    assert scores["PQ-grass"] == scores["PQ_st"]
    assert scores["PQ-cat"] == 100.0
    assert scores["PQ_th"] == 100.0


def test_outputs_are_left_as_they_are(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    maps = [output["panoptic_seg"][0].clone() for output in outputs]
    segments = [[dict(s) for s in output["panoptic_seg"][1]] for output in outputs]
    run(PanopticQualityEvaluator(tiny_dataset), tiny_records, outputs)
    for output, panoptic_map, infos in zip(outputs, maps, segments):
        assert torch.equal(output["panoptic_seg"][0], panoptic_map)
        assert output["panoptic_seg"][1] == infos


def test_encoded_maps_are_understood_and_left_as_they_are(tiny_dataset, tiny_records, run):
    # class * 1000 + instance, -1 = void, without segments_info.
    outputs = []
    for output in _truth(tiny_records):
        ids, segments = output["panoptic_seg"]
        encoded = torch.full_like(ids, -1)
        for segment in segments:
            instance = segment["id"] if segment["isthing"] else 0
            encoded[ids == segment["id"]] = segment["category_id"] * 1000 + instance
        outputs.append({"panoptic_seg": (encoded, None)})
    before = outputs[0]["panoptic_seg"][0].clone()
    scores = run(PanopticQualityEvaluator(tiny_dataset), tiny_records, outputs)
    assert scores["panoptic_seg"]["PQ"] == 100.0
    assert torch.equal(outputs[0]["panoptic_seg"][0], before)


def test_flags_of_numpy_count_as_booleans(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    for output in outputs:
        for segment in output["panoptic_seg"][1]:
            segment["isthing"] = np.bool_(segment["isthing"])
    scores = run(PanopticQualityEvaluator(tiny_dataset), tiny_records, outputs)
    assert scores["panoptic_seg"]["PQ"] == 100.0


def test_predictions_are_kept_where_asked(tiny_dataset, tiny_records, run, tmp_path):
    evaluator = PanopticQualityEvaluator(tiny_dataset, str(tmp_path / "kept"))
    run(evaluator, tiny_records, _truth(tiny_records))
    assert (tmp_path / "kept" / "predictions.json").is_file()


def test_of_a_part_without_classes_there_is_no_score(tiny_dataset, tiny_records, run, monkeypatch):
    # panopticapi divides by the number of classes that occur. Here no stuff does: grass is a thing.
    metadata = MetadataCatalog.get(tiny_dataset)
    content = json.loads(Path(metadata.panoptic_json).read_text())
    for category in content["categories"]:
        category["isthing"] = 1
    changed = Path(metadata.panoptic_json).with_name("things.json")
    changed.write_text(json.dumps(content))
    evaluator = PanopticQualityEvaluator(tiny_dataset, per_class=True)
    names = {**metadata.as_dict(), "panoptic_json": str(changed)}
    monkeypatch.setattr(evaluator, "_metadata", SimpleNamespace(**names))
    scores = run(evaluator, tiny_records, _truth(tiny_records))["panoptic_seg"]
    missing = {name for name, score in scores.items() if np.isnan(score)}
    assert missing == {"PQ_st", "SQ_st", "RQ_st"}
    assert {score for name, score in scores.items() if name not in missing} == {100.0}


def test_what_the_json_leaves_out_is_worked_out_and_what_is_broken_is_named(
    tiny_dataset, tiny_records, run
):
    path = Path(MetadataCatalog.get(tiny_dataset).panoptic_json)
    whole = path.read_text()
    try:
        content = json.loads(whole)
        del content["categories"]
        for annotation in content["annotations"]:
            for segment in annotation["segments_info"]:
                del segment["area"]
                if not segment["iscrowd"]:
                    del segment["iscrowd"]
        path.write_text(json.dumps(content))
        for evaluator in (PanopticQualityEvaluator, OnTheFlyPanopticEvaluator):
            scores = run(evaluator(tiny_dataset), tiny_records, _truth(tiny_records))
            assert set(scores["panoptic_seg"].values()) == {100.0}
        content["annotations"][1]["segments_info"][0]["id"] = "1"
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"annotations\[1\] .*id must be a whole number"):
            run(PanopticQualityEvaluator(tiny_dataset), tiny_records, _truth(tiny_records))
    finally:
        path.write_text(whole)
