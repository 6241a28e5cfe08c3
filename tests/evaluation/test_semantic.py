import numpy as np
import pytest
import torch

from deeplab2_d2.evaluation import GroundTruthPredictor, SemanticEvaluator, summarize_confusion


def _truth(records):
    return GroundTruthPredictor(num_classes=3, thing_ids={0, 2})(records)


def test_ground_truth_decoded_from_the_panoptic_png_scores_100(tiny_dataset, tiny_records, run):
    scores = run(SemanticEvaluator(tiny_dataset), tiny_records, _truth(tiny_records))["sem_seg"]
    assert set(scores) == {"mIoU", "fwIoU", "mACC", "pACC"} | {
        f"{metric}-{name}" for metric in ("IoU", "ACC") for name in ("cat", "grass", "dog")
    }
    assert set(scores.values()) == {100.0}


@pytest.mark.parametrize("ignore_crowd, dog_iou", [(True, 100.0), (False, 50.0)])
def test_crowd_is_evaluated_only_where_asked(
    tiny_dataset, tiny_records, run, ignore_crowd, dog_iou
):
    # The crowd of dogs (6 pixels of image two) is predicted as a cat; image one has 6 dog pixels.
    outputs = _truth(tiny_records)
    outputs[1]["sem_seg"][:, 2:, 3:] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    evaluator = SemanticEvaluator(tiny_dataset, ignore_crowd=ignore_crowd)
    assert run(evaluator, tiny_records, outputs)["sem_seg"]["IoU-dog"] == dog_iou


def test_unlabeled_pixels_do_not_count(tiny_dataset, tiny_records, run):
    outputs = _truth(tiny_records)
    outputs[0]["sem_seg"][:, :2, 5] = torch.tensor([0.0, 0.0, 9.0])[:, None]
    scores = run(SemanticEvaluator(tiny_dataset), tiny_records, outputs)["sem_seg"]
    assert scores["mIoU"] == 100.0


def test_label_map_with_void_counts_void_as_an_error(tiny_dataset, tiny_records, run):
    # Image one: 4 of the 4 cat pixels are void; image two has 6 right ones.
    outputs = [{"sem_seg": output["sem_seg"].argmax(0)} for output in _truth(tiny_records)]
    outputs[0]["sem_seg"][:2, 3:5] = -1
    scores = run(SemanticEvaluator(tiny_dataset), tiny_records, outputs)["sem_seg"]
    assert scores["IoU-cat"] == pytest.approx(60.0)
    assert scores["ACC-cat"] == pytest.approx(60.0)
    assert scores["IoU-dog"] == 100.0


def test_prediction_of_another_size_is_refused(tiny_dataset, tiny_records):
    evaluator = SemanticEvaluator(tiny_dataset)
    with pytest.raises(ValueError, match=r"one\.jpg is \(2, 2\), its ground truth \(4, 6\)"):
        evaluator.process(tiny_records[:1], [{"sem_seg": torch.zeros(3, 2, 2)}])


def test_summary_follows_detectron2s_formulas():
    # Rows are predictions; class c is predicted once but never true, so it counts as 0 in the mean.
    confusion = np.array([[6, 2, 0, 5], [1, 8, 0, 5], [1, 0, 0, 5], [0, 0, 0, 0]])
    scores = summarize_confusion(confusion, ["a", "b", "c"])
    iou_a, iou_b = 6 / (8 + 8 - 6), 8 / (10 + 9 - 8)
    assert scores["mIoU"] == pytest.approx(100 * (iou_a + iou_b) / 3)
    assert scores["fwIoU"] == pytest.approx(100 * (iou_a * 8 + iou_b * 10) / 18)
    assert scores["mACC"] == pytest.approx(100 * (6 / 8 + 8 / 10) / 2)
    assert scores["pACC"] == pytest.approx(100 * 14 / 18)
    assert np.isnan(scores["IoU-c"])


def test_every_class_has_its_line_in_the_log(tiny_dataset, tiny_records, run, caplog):
    outputs = [{"sem_seg": output["sem_seg"].argmax(0)} for output in _truth(tiny_records)]
    outputs[0]["sem_seg"][:2, 3:5] = -1
    with caplog.at_level("INFO"):
        run(SemanticEvaluator(tiny_dataset), tiny_records, outputs)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in caplog.text.splitlines()]
    assert ["cat", "60.00", "60.00"] in lines and ["dog", "100.00", "100.00"] in lines


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
def test_scores_give_the_class_that_argmax_gives(tiny_dataset, tiny_records, run, dtype):
    """With ties and NaN."""
    generator = torch.Generator().manual_seed(0)
    results = []
    for is_chosen in (False, True):
        outputs = []
        for output in _truth(tiny_records):
            scores = torch.randint(-3, 4, output["sem_seg"].shape, generator=generator).to(dtype)
            if dtype.is_floating_point:
                scores[2, ::3] = torch.nan
            outputs.append({"sem_seg": scores.argmax(dim=0) if is_chosen else scores})
        generator.manual_seed(0)
        results.append(run(SemanticEvaluator(tiny_dataset), tiny_records, outputs))
    assert repr(results[0]) == repr(results[1]) and results[0]["sem_seg"]["pACC"] > 0
