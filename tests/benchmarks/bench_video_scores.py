"""STQ and VPQ of a video: ours against NumPy's sorting of the pairs of labels."""

from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
from measuring import measure

from deeplab2_d2.evaluation import SegmentationTrackingQuality, VideoPanopticQuality

NUM_CLASSES, FIRST_THING, DIVISOR = 19, 11, 1000
WINDOWS = (1, 2, 3, 4)
OPTIONS = {"num_classes": NUM_CLASSES, "ignore_label": 255, "label_divisor": DIVISOR}
Frame = Tuple[np.ndarray, np.ndarray]
Areas = Dict[int, int]


def make_frames(height: int, width: int, num_frames: int, num_instances: int) -> List[Frame]:
    """Ellipses that move over stripes of stuff, and a prediction a few pixels beside them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    stuff = (x * 3 // width + 3 * (y * 3 // height)) * DIVISOR
    centers = rng.uniform(0, 1, (num_instances, 2)) * (height, width)
    radii = rng.uniform(0.03, 0.12, (num_instances, 2)) * (height, width)
    speeds = rng.uniform(-0.01, 0.01, (num_instances, 2)) * (height, width)
    frames = []
    for time in range(num_frames):
        truth = stuff.copy()
        for number in range(num_instances):
            center = (centers[number] + time * speeds[number]) % (height, width)
            distance = ((y - center[0]) / radii[number, 0]) ** 2
            inside = distance + ((x - center[1]) / radii[number, 1]) ** 2 < 1
            truth[inside] = (FIRST_THING + number % 8) * DIVISOR + 1 + number
        prediction = np.roll(truth, (3, 5), axis=(0, 1))
        truth[:2] = 255 * DIVISOR
        frames.append((truth.astype(np.int32), prediction.astype(np.int32)))
    return frames


def count(labels: np.ndarray) -> Areas:
    values, areas = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), areas.tolist()))


def sorted_tracking(truth: np.ndarray, prediction: np.ndarray) -> Tuple[np.ndarray, List[Areas]]:
    """What STQ needs of a frame: matrix of classes, and areas of tubes, tracks and their pairs."""
    truth, prediction = truth.ravel().astype(np.int64), prediction.ravel().astype(np.int64)
    classes = [np.minimum(labels // DIVISOR, NUM_CLASSES) for labels in (truth, prediction)]
    size = NUM_CLASSES + 1
    matrix = np.bincount(size * classes[0] + classes[1], minlength=size * size)
    is_thing = [(k >= FIRST_THING) & (k < NUM_CLASSES) for k in classes]
    is_crowd = is_thing[0] & (truth % DIVISOR == 0)
    is_tube, is_track = is_thing[0] & ~is_crowd, is_thing[1] & ~is_crowd
    both = is_tube & is_track
    pairs = truth[both] * 2**32 + prediction[both]
    return matrix, [count(truth[is_tube]), count(prediction[is_track]), count(pairs)]


def sorted_window(frames: List[Frame], iou: np.ndarray, counts: np.ndarray) -> None:
    """Panoptic quality of one window, added to the IoUs and the hits, misses and alarms."""
    truth, prediction = (np.concatenate(maps).astype(np.int64) for maps in zip(*frames))
    areas, sizes = count(truth), count(prediction)
    pairs = count(truth * 2**32 + prediction)
    void = 255 * DIVISOR
    matched = set()
    for pair, common in pairs.items():
        label, other = divmod(pair, 2**32)
        if label == void or label // DIVISOR != other // DIVISOR:
            continue
        union = areas[label] + sizes[other] - common - pairs.get(void * 2**32 + other, 0)
        if common / union > 0.5:
            matched |= {("truth", label), ("prediction", other)}
            iou[label // DIVISOR] += common / union
            counts[0, label // DIVISOR] += 1
    for label in areas:
        if label != void and ("truth", label) not in matched:
            counts[1, label // DIVISOR] += 1
    for other, size in sizes.items():
        if ("prediction", other) not in matched:
            if pairs.get(void * 2**32 + other, 0) <= 0.5 * size:
                counts[2, other // DIVISOR] += 1


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    height, width, num_frames = (97, 313, 6) if args.quick else (385, 1249, 30)
    frames = make_frames(height, width, num_frames, num_instances=30)
    yield from stq_rows(args, frames[0])
    yield from vpq_rows(args, frames)


def stq_rows(args: Any, frame: Frame) -> Iterator[Dict[str, Any]]:
    things = range(FIRST_THING, NUM_CLASSES)
    metric = SegmentationTrackingQuality(thing_ids=things, **OPTIONS)
    metric.add(*frame)
    matrix, (tubes, tracks, pairs) = sorted_tracking(*frame)
    (state,) = metric._sequences.values()
    ours = {label * 2**32 + other: area for (label, other), area in state.overlaps.items()}
    same = (state.true_areas, state.predicted_areas, ours) == (tubes, tracks, pairs)
    if not same or (state.confusion.ravel() != matrix).any():
        raise RuntimeError("the statistics of STQ differ")
    # One call is over before the processor is awake.
    repeats = 10 * args.repeats
    yield {
        "name": f"STQ of a frame of {frame[0].shape[0]}x{frame[0].shape[1]}, 30 instances",
        "measurement": measure(lambda: metric.add(*frame), repeats=repeats),
        "peer": "NumPy, np.unique of labels and pairs",
        "peer_seconds": measure(lambda: sorted_tracking(*frame), repeats=repeats).seconds,
    }


def vpq_rows(args: Any, frames: List[Frame]) -> Iterator[Dict[str, Any]]:
    def ours() -> VideoPanopticQuality:
        metric = VideoPanopticQuality(windows=WINDOWS, **OPTIONS)
        for frame in frames:
            metric.add(*frame)
        return metric

    def peer() -> Dict[int, Tuple[np.ndarray, np.ndarray]]:
        results = {}
        for length in WINDOWS:
            results[length] = np.zeros(NUM_CLASSES), np.zeros((3, NUM_CLASSES))
            for first in range(len(frames) - length + 1):
                sorted_window(frames[first : first + length], *results[length])
        return results

    metric = ours()
    for length, (iou, counts) in peer().items():
        quality = metric.qualities[length]
        hits, misses = quality.num_true_positives, quality.num_false_negatives
        same = np.array_equal(counts, [hits, misses, quality.num_false_positives])
        if not same or not np.allclose(iou, quality.iou):
            raise RuntimeError(f"the counts of VPQ-{length} differ")
    height, width = frames[0][0].shape
    yield {
        "name": f"VPQ-1 to 4 of {len(frames)} frames of {height}x{width}, 30 instances",
        "measurement": measure(ours, repeats=args.repeats),
        "peer": "NumPy, np.unique of each window",
        "peer_seconds": measure(peer, repeats=args.repeats, warmups=0).seconds,
    }
