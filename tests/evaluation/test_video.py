"""Evaluators of videos against the formulas of the papers, written pixel by pixel."""

import copy

import numpy as np
import pytest
import tiny_videos as videos
from PIL import Image

from deeplab2_d2.evaluation import (
    OnTheFlyPanopticEvaluator,
    VideoEvaluator,
    build_video_evaluators,
)
from deeplab2_d2.structures import read_panoptic_png

NAME = "deeplab2_d2_tiny_videos"
ALL = ("sem_seg", "track", "depth")


@pytest.fixture
def dataset(tmp_path):
    records, outputs, metadata = videos.make_video_dataset(tmp_path)
    videos.register(NAME, records, metadata)
    yield records, outputs, metadata
    videos.remove(NAME)


@pytest.fixture
def results(dataset, run):
    (evaluator,) = build_video_evaluators(NAME, ALL, "out")
    return run(evaluator, dataset[0], dataset[1])


def _frames(dataset):
    """Per sequence, lists of true and predicted labels, true and predicted depth."""
    frames = {}
    for record, output in zip(*dataset[:2]):
        truth = videos.labels_of(record, read_panoptic_png(record["pan_seg_file_name"]))
        depth = np.asarray(Image.open(record["depth_file_name"])) / 256
        maps = (truth, output["track"].numpy(), depth, output["depth"].numpy())
        for kept, value in zip(frames.setdefault(record["sequence"], ([], [], [], [])), maps):
            kept.append(value)
    return {name: [np.stack(maps) for maps in lists] for name, lists in frames.items()}


def _is_crowd(labels):
    return np.isin(labels, [k * videos.DIVISOR for k in videos.THINGS])


def _association(truth, prediction):
    """STEP (arXiv:2102.11859), equation of AQ: a term for each true tube."""
    terms = []
    crowd = _is_crowd(truth)
    classes = prediction // videos.DIVISOR
    for tube in np.unique(truth):
        if tube < 0 or tube // videos.DIVISOR not in videos.THINGS or _is_crowd(tube):
            continue
        true_mask = truth == tube
        total = 0.0
        for label in np.unique(prediction[true_mask & np.isin(classes, videos.THINGS)]):
            mask = (prediction == label) & ~crowd
            common = (true_mask & mask).sum()
            total += common * common / (true_mask | mask).sum()
        terms.append(total / true_mask.sum())
    return terms


def _class_iou(truth, prediction):
    """Of the classes and, last, of void, which can only be wrong."""
    inside = truth >= 0
    true_class, predicted_class = truth[inside] // 1000, prediction[inside] // 1000
    ious = []
    for k in (0, 1, 2, 3, -1):
        union = ((true_class == k) | (predicted_class == k)).sum()
        if union:
            ious.append(((true_class == k) & (predicted_class == k)).sum() / union)
    return ious


def test_stq_is_that_of_the_formula(dataset, results):
    frames, stq = _frames(dataset), results["stq"]
    terms = {name: _association(*maps[:2]) for name, maps in frames.items()}
    flat = [np.concatenate([maps[i].ravel() for maps in frames.values()]) for i in (0, 1)]
    ious = _class_iou(*flat)
    association = np.mean(sum(terms.values(), []))
    assert stq["AQ"] == pytest.approx(100 * association, rel=1e-6)
    assert stq["SQ"] == pytest.approx(100 * np.mean(ious))
    assert stq["STQ"] == pytest.approx(100 * np.sqrt(association * np.mean(ious)), rel=1e-6)
    assert 5 < stq["STQ"] < 95
    assert [stq[f"IoU-{name}"] for name in videos.CLASSES] == pytest.approx(
        [100 * iou for iou in ious[:4]]
    )
    for name, maps in frames.items():
        assert stq[f"AQ-{name}"] == pytest.approx(100 * np.mean(terms[name]), rel=1e-6)
        assert stq[f"SQ-{name}"] == pytest.approx(100 * np.mean(_class_iou(*maps[:2])))


def _quality(windows, classes):
    """Panoptic quality of (truth, prediction) pairs: mean over the classes that occur."""
    scores = []
    for k in classes:
        iou_sum = hits = misses = alarms = 0
        for truth, prediction in windows:
            void, crowd = truth < 0, truth == (k * 1000 if k in videos.THINGS else -2)
            found = set()
            for label in np.unique(truth[(truth // 1000 == k) & ~void & ~crowd]):
                ious = {}
                for other in np.unique(prediction[prediction // 1000 == k]):
                    a, b = truth == label, prediction == other
                    ious[other] = (a & b).sum() / ((a | b) & (a | ~void)).sum()
                match = [other for other, iou in ious.items() if iou > 0.5]
                found.update(match)
                hits, misses = hits + len(match), misses + 1 - len(match)
                iou_sum += sum(ious[other] for other in match)
            for other in set(np.unique(prediction[prediction // 1000 == k])) - found:
                alarms += (void | crowd)[prediction == other].mean() <= 0.5
        if hits + misses + alarms:
            scores.append(iou_sum / (hits + 0.5 * misses + 0.5 * alarms))
    return 100 * np.mean(scores)


def _windows(frames, length, limit=None):
    for truth, prediction, true_depth, depth in frames.values():
        if limit is not None:
            known = true_depth > 0
            error = np.abs(depth - true_depth) / np.where(known, true_depth, 1)
            prediction = np.where(known & (error > limit), -1, prediction)
        for first in range(len(truth) - length + 1):
            yield truth[first : first + length], prediction[first : first + length]


def test_vpq_and_dvpq_are_those_of_the_formula(dataset, results):
    frames = _frames(dataset)
    parts = {"": (0, 1, 2, 3), "_th": (0, 1), "_st": (2, 3)}
    for part, classes in parts.items():
        plain, with_depth = [], []
        for length in (1, 2, 3, 4):
            plain.append(_quality(list(_windows(frames, length)), classes))
            assert results["vpq"][f"VPQ-{length}{part}"] == pytest.approx(plain[-1])
            for limit in (0.5, 0.25, 0.1):
                with_depth.append(_quality(list(_windows(frames, length, limit)), classes))
                score = results["dvpq"][f"DVPQ-{length}@{limit}{part}"]
                assert score == pytest.approx(with_depth[-1])
        assert results["vpq"][f"VPQ{part}"] == pytest.approx(np.mean(plain))
        assert results["dvpq"][f"DVPQ{part}"] == pytest.approx(np.mean(with_depth))
        assert results["dvpq"][f"DVPQ@0.1{part}"] == pytest.approx(np.mean(with_depth[2::3]))
        assert 0 < min(with_depth) < max(with_depth) < max(plain) < 100


def test_dstq_and_depth_errors_are_those_of_the_formula(dataset, results):
    ratios, errors = [], []
    for _, _, true_depth, depth in _frames(dataset).values():
        for truth, guess in zip(true_depth, depth):
            known = truth > 0
            truth, guess = truth[known], guess[known]
            ratios.append(np.maximum(truth / guess, guess / truth))
            difference = np.abs(truth - guess) / truth
            scale = 100 * np.std(np.log(guess) - np.log(truth))
            inliers = (ratios[-1] < 1.25).mean()
            errors.append([scale, (difference**2).mean(), difference.mean(), inliers])
    names = ("SILog", "SqErrorRel", "AbsErrorRel", "DepthInlier")
    assert results["depth"] == pytest.approx(dict(zip(names, np.mean(errors, axis=0))))
    qualities = [(np.concatenate(ratios) <= limit).mean() for limit in (1.25, 1.1)]
    stq, dstq = results["stq"]["STQ"] / 100, results["dstq"]
    assert dstq["DQ@1.1"] == pytest.approx(100 * qualities[1])
    assert dstq["DSTQ@1.25"] == pytest.approx(100 * (stq**2 * qualities[0]) ** (1 / 3))
    depth_quality = (qualities[0] * qualities[1]) ** 0.5
    assert dstq["DSTQ"] == pytest.approx(100 * (stq**2 * depth_quality) ** (1 / 3))


def test_windows_of_one_frame_score_as_panopticapi_does(dataset, results, run):
    pytest.importorskip("panopticapi")
    outputs = [{"panoptic_seg": (output["track"], None)} for output in dataset[1]]
    expected = run(OnTheFlyPanopticEvaluator(NAME), dataset[0], outputs)["panoptic_seg"]
    vpq = results["vpq"]
    assert [vpq[f"VPQ-1{part}"] for part in ("", "_th", "_st")] == pytest.approx(
        [expected[f"PQ{part}"] for part in ("", "_th", "_st")]
    )


def test_the_dataset_says_which_windows(dataset, run):
    records, outputs, metadata = dataset
    videos.remove(NAME)
    videos.register(NAME, records, {**metadata, "vpq_windows": (3, 5)})
    (evaluator,) = build_video_evaluators(NAME, ["track"], "out")
    results = run(evaluator, records, outputs)
    assert list(results) == ["stq", "vpq"]
    assert set(results["vpq"]) == {
        f"{name}{part}" for name in ("VPQ", "VPQ-3", "VPQ-5") for part in ("", "_th", "_st")
    }


def test_what_is_built_follows_from_outputs_and_dataset(dataset, run):
    records, outputs, metadata = dataset
    (evaluator,) = build_video_evaluators(NAME, ["depth"], "out")
    assert list(run(evaluator, records, outputs)) == ["depth"]
    assert build_video_evaluators(NAME, ["panoptic_seg"], "out") == []
    without = copy.deepcopy(records)
    for record in without:
        record.pop("depth_file_name")
        for segment in record["segments_info"]:
            segment.pop("track_id")
    videos.remove(NAME)
    videos.register(NAME, without, metadata)
    assert build_video_evaluators(NAME, ALL, "out") == []


def _process(records, outputs, places):
    evaluator = VideoEvaluator(NAME, has_depth=True)
    for place in places:
        evaluator.process([records[place]], [outputs[place]])
    return evaluator


@pytest.mark.parametrize(
    "places, error",
    [
        ([0, 1, 1], "frame 5 of sequence 'long' must come once, got it twice"),
        ([0, 2], "frame 5 of sequence 'long' is missing or out of order: .* before frame 7"),
        ([1], "frame 3 of sequence 'long' is missing or out of order"),
    ],
)
def test_frames_twice_or_out_of_order_are_named(dataset, places, error):
    with pytest.raises(ValueError, match=error):
        _process(dataset[0], dataset[1], places)


def test_missing_frames_are_named_at_the_end(dataset):
    evaluator = _process(dataset[0], dataset[1], range(len(dataset[0]) - 1))
    with pytest.raises(ValueError, match="frame 11 of sequence 'middle' is missing"):
        evaluator.evaluate()


@pytest.mark.parametrize(
    "change, error",
    [
        (
            lambda record, output: output.update(track=output["track"][1:]),
            r"track must be \(18, 24\).*17, 24",
        ),
        (
            lambda record, output: output.update(depth=output["depth"][1:]),
            r"depth must be \(18, 24\).*17, 24",
        ),
        (lambda record, output: output["track"].fill_(4000), "classes below 4, got 4"),
        (lambda record, output: record["segments_info"][0].pop("track_id"), "track_id in .* None"),
        (lambda record, output: record["segments_info"].pop(), r"map has segments \[\d+\]"),
        (
            lambda record, output: Image.fromarray(np.ones((3, 3), np.uint16)).save(
                record["depth_file_name"]
            ),
            r"depth .*_depth.png must be \(18, 24\).*got \(3, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_frame(dataset, change, error):
    records, outputs, _ = dataset
    change(records[0], outputs[0])
    with pytest.raises(ValueError, match=f"frame 3 of sequence 'long'.*{error}"):
        _process(records, outputs, [0])


def test_a_frame_that_the_dataset_has_not_is_named(dataset):
    evaluator = VideoEvaluator(NAME)
    with pytest.raises(ValueError, match="frame 4 of sequence 'long' must be in the dataset"):
        evaluator.process([{**dataset[0][0], "frame": 4}], [dataset[1][0]])


def test_a_dataset_must_have_frames_of_sequences_each_once(dataset):
    records, _, metadata = dataset
    twice = [*records, records[2]]
    image = [*records, {"file_name": "image.jpg"}]
    errors = (
        (twice, "frame 7 of sequence 'long' must be in the dataset once"),
        (image, "image.jpg"),
    )
    for dicts, error in errors:
        videos.remove(NAME)
        videos.register(NAME, dicts, metadata)
        with pytest.raises(ValueError, match=error):
            VideoEvaluator(NAME)
