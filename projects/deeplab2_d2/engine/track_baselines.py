"""One network's segments under several ways to number them, and depth without a network."""

import itertools
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import Tensor, nn

from ..evaluation import DepthMetrics, VideoScores, read_truth
from ..structures import DatasetClasses, read_depth
from ..video import SequenceRunner, label_panoptic_seg, start_iou_tracks, track_by_overlap
from .loaders import build_test_loader

Sample = Mapping[str, Any]
Results = Mapping[str, Mapping[str, float]]


class Frame(NamedTuple):
    """
    Attributes:
        record: dataset dict.
        output: the model's.
        tracks: name of a way to number instances to (H, W) labels.
    """

    record: Sample
    output: Sample
    tracks: Dict[str, Tensor]


class Numberings:
    """
    Ways to number the instances of a video; each sees every frame once, in its order.

    The names: "model" has the tracks that a model of videos returns itself; "overlap" those of the
    IoU tracker on the labels of single frames; "raster" numbers a class's instances anew in each
    frame, by their first pixels; "fresh" gives each instance a number that no other frame has, as
    long as there are numbers below the divisor.
    """

    def __init__(self, label_divisor: int):
        self._divisor = label_divisor
        self._begin(None)

    def _begin(self, sequence: Optional[str]) -> None:
        self._sequence = sequence
        self._overlap = start_iou_tracks()
        self._num_fresh = 0

    def number(self, record: Sample, output: Sample) -> Dict[str, Tensor]:
        """
        Args:
            record: with ``sequence``.
            output: with ``panoptic_seg`` and, of a model of videos, ``track``.
        """
        if record["sequence"] != self._sequence:
            self._begin(record["sequence"])
        divisor = self._divisor
        labels = label_panoptic_seg(*output["panoptic_seg"], label_divisor=divisor)
        overlap, self._overlap = track_by_overlap(labels, self._overlap, label_divisor=divisor)
        is_instance = (labels >= 0) & (labels % divisor > 0)
        numbers = labels % divisor
        moved = labels - numbers + (numbers + self._num_fresh - 1) % (divisor - 1) + 1
        fresh = torch.where(is_instance, moved, labels)
        self._num_fresh += int(numbers[is_instance].max()) if is_instance.any() else 0
        numbered = {"overlap": overlap, "raster": labels, "fresh": fresh}
        return {"model": output["track"], **numbered} if "track" in output else numbered


@torch.no_grad()
def predict_frames(cfg: CfgNode, model: nn.Module, dataset_name: str) -> Iterable[Frame]:
    """
    Run a model over the sequences of a dataset.

    Args:
        cfg: of the loader.
        model: returns ``panoptic_seg``.
        dataset_name: registered, with sequences.
    """
    records = {r["file_name"]: r for r in DatasetCatalog.get(dataset_name)}
    numberings = Numberings(MetadataCatalog.get(dataset_name).label_divisor)
    runner = SequenceRunner(model).eval()
    for (sample,) in build_test_loader(cfg, dataset_name):
        (output,) = runner([sample])
        record = records[sample["file_name"]]
        yield Frame(record, output, numberings.number(record, output))


def score_numberings(
    frames: Iterable[Frame], dataset_name: str, group_of: Callable[[str], str]
) -> Dict[Tuple[str, str], Results]:
    """
    Args:
        frames: of the dataset, in its order.
        dataset_name: registered, with tracks.
        group_of: name of a sequence to that of its group, which is scored apart.

    Returns:
        (numbering, group) to the results of :class:`VideoEvaluator`; group "" is all sequences.
        Depth is scored with the model's own tracks.
    """
    classes = DatasetClasses.from_metadata(MetadataCatalog.get(dataset_name))
    scores: Dict[Tuple[str, str], VideoScores] = {}
    for record, sequence_frames in itertools.groupby(frames, lambda f: f.record["sequence"]):
        own: Dict[str, VideoScores] = {}
        for frame in sequence_frames:
            has_depth = "depth" in frame.output and "depth_file_name" in frame.record
            truth = read_truth(
                frame.record, classes.label_divisor, has_tracks=True, has_depth=has_depth
            )
            depth = frame.output["depth"].cpu().numpy() if has_depth else None
            for name, track in frame.tracks.items():
                if name not in own:
                    own[name] = VideoScores(classes, windows=(1, 2, 3, 4), has_depth=has_depth)
                own[name].add(record, truth, track.cpu().numpy(), depth)
        for name, part in own.items():
            for group in dict.fromkeys(("", group_of(record))):
                empty = VideoScores(classes, windows=(1, 2, 3, 4), has_depth=part.depth is not None)
                scores.setdefault((name, group), empty).merge(part)
    return {key: part.results() for key, part in scores.items()}


def score_mean_depth(train_name: str, dataset_name: str) -> Dict[str, Dict[str, float]]:
    """
    The errors of depths that no image is looked at for.

    Args:
        train_name: registered dataset with depth, over which the means are taken; frames are of one
            size.
        dataset_name: that is predicted.

    Returns:
        "mean" (one depth everywhere) and "mean of each pixel" to :class:`DepthMetrics`' result.
    """
    totals, counts = np.zeros(()), np.zeros(())
    for record in DatasetCatalog.get(train_name):
        depth = read_depth(record["depth_file_name"]).astype(np.float64)
        totals, counts = totals + depth, counts + (depth > 0)
    mean = totals.sum() / counts.sum()
    # What is never known is as far as the mean.
    by_pixel = np.where(counts > 0, totals / np.maximum(counts, 1), mean)
    metrics = {"mean": DepthMetrics(), "mean of each pixel": DepthMetrics()}
    for record in DatasetCatalog.get(dataset_name):
        truth = read_depth(record["depth_file_name"])
        metrics["mean"].add(truth, np.full_like(truth, mean))
        metrics["mean of each pixel"].add(truth, by_pixel.astype(np.float32))
    return {name: metric.result() for name, metric in metrics.items()}
