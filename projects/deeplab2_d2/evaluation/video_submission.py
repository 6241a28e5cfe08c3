"""Tracks and depth of videos in the formats of the servers that score them, and back again."""

import logging
import os
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from PIL import Image

from ..structures import (
    DatasetClasses,
    claim_output,
    depth_units,
    open_image,
    read_depth,
    stem_of,
)
from .label_readers import reads_labels
from .staging import Staging
from .video_formats import find_video_format
from .video_frames import FrameOrder, Sample, name_of

logger = logging.getLogger(__name__)


class VideoSubmission(DatasetEvaluator):
    """
    Writes the files of a dataset's sequences, all of them when all frames are done.

    Needs no ground truth. Several processes may write to one file system.
    """

    def __init__(self, dataset_name: str, folder: str, format_name: str, *, has_depth: bool):
        """
        Args:
            dataset_name: registered, its dicts with ``sequence`` and ``frame``; its metadata map
                contiguous ids to those of the server.
            folder: where the files go; zip what is in it.
            format_name: key of ``VIDEO_FORMATS``.
            has_depth: whether outputs have ``depth``, to be written if the server takes it.

        Raises:
            ValueError: if two frames would have one file, there is no such format, or the classes
                do not fit it.
        """
        self._format = find_video_format(format_name)
        self._name = format_name
        self._has_depth = has_depth and self._format.depth_file is not None
        metadata = MetadataCatalog.get(dataset_name)
        self._divisor = DatasetClasses.from_metadata(metadata).label_divisor
        self._ids = _category_ids(metadata, self._format.void_class)
        dicts = DatasetCatalog.get(dataset_name)
        owners: Dict[str, str] = {}
        for record in dicts:
            png = _fill(self._format.panoptic_files[0], record)
            claim_output(owners, png, record["file_name"], "the prediction")
        self._order = FrameOrder(dicts)
        self._staging = Staging(folder)

    def reset(self) -> None:
        """Begin anew."""
        self._order.reset()
        self._staging.clear()

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs, outputs: as for :class:`VideoEvaluator`. Depth is rounded to 1/256 of a meter,
                at least that, at most 65535/256.

        Raises:
            ValueError: if a frame comes twice or out of its order, is not of the image's size, or
                has a class or a number of a track that cannot be written.
        """
        for sample, output in zip(inputs, outputs):
            # Without annotation, only the mapper knows the size.
            record = {**sample, **self._order.take(sample)}
            maps = self._encode(record, output["track"].detach().cpu().numpy())
            for path, image in zip(self._format.panoptic_files, maps):
                self._write(_fill(path, record), image)
            if self._has_depth and self._format.depth_file is not None:
                depth = output["depth"].detach().cpu().numpy()
                _check_size(record, "depth", depth)
                self._write(_fill(self._format.depth_file, record), depth_units(depth))

    def _encode(self, record: Sample, track: np.ndarray) -> Sequence[np.ndarray]:
        _check_size(record, "track", track)
        is_void = track < 0
        classes, numbers = track // self._divisor, np.where(is_void, 0, track % self._divisor)
        if classes.max(initial=0) >= len(self._ids) - 1:
            raise ValueError(
                f"{name_of(record)}: track must have classes below {len(self._ids) - 1}, got "
                f"{classes.max()}"
            )
        if numbers.max(initial=0) > self._format.largest_number:
            raise ValueError(
                f"{name_of(record)}: {self._name} files have numbers of tracks up to "
                f"{self._format.largest_number}, got {numbers.max()}"
            )
        # The last entry is that of void, -1.
        return self._format.encode(self._ids[np.where(is_void, -1, classes)], numbers)

    def _write(self, name: str, image: np.ndarray) -> None:
        path = os.path.join(self._staging.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(image).save(path, format="PNG")

    def evaluate(self) -> Dict[str, Any]:
        """
        Put the files of all processes into the folder.

        Returns:
            nothing: there are no scores.

        Raises:
            ValueError: if a frame is missing, or two processes had one sequence.
        """
        self._order.check_complete(comm.all_gather(self._order.progress))
        self._staging.publish()
        comm.synchronize()
        logger.info(
            "Wrote predictions of %d sequences to %s",
            len(self._order.sequences),
            self._staging.folder,
        )
        return {}


class VideoFilePredictor:
    """
    Predicts what stands in files of a server's format, of this program or of another.

    Called as a Detectron2 model is, so that the files can be scored by any evaluator.
    """

    def __init__(self, dataset_name: str, folder: str, format_name: str, *, has_depth: bool):
        """
        Args:
            dataset_name, format_name, has_depth: as for :class:`VideoSubmission`.
            folder: of the files.

        Raises:
            ValueError: see :class:`VideoSubmission`.
        """
        self._format = find_video_format(format_name)
        self._folder = folder
        self._has_depth = has_depth and self._format.depth_file is not None
        metadata = MetadataCatalog.get(dataset_name)
        self._divisor = DatasetClasses.from_metadata(metadata).label_divisor
        ids = _category_ids(metadata, self._format.void_class)
        self._classes = {category: k for k, category in enumerate(ids[:-1].tolist())}
        self._classes[self._format.void_class] = -1

    def __call__(self, inputs: Sequence[Sample]) -> List[Dict[str, Any]]:
        """
        Args:
            inputs: dicts with ``file_name`` and ``sequence``.

        Returns:
            For each ``track``, (H, W) int32, and ``depth``, (H, W) float32.

        Raises:
            FileNotFoundError: if a file is not there.
            ValueError: if it cannot be read, has other channels, a class that the dataset has not,
                or a number of a track that is not below its label divisor.
        """
        return [self._predict(sample) for sample in inputs]

    def _predict(self, sample: Sample) -> Dict[str, Any]:
        images = []
        for path in self._format.panoptic_files:
            path = os.path.join(self._folder, _fill(path, sample))
            with open_image(path, "prediction") as image:
                images.append(np.asarray(image))
            # One map a file, or both in the colors of one.
            is_colored = len(self._format.panoptic_files) == 1
            if images[-1].ndim != 2 + is_colored:
                channels = "the channels of a color" if is_colored else "one channel"
                raise ValueError(f"{path} must have {channels}, got {images[-1].shape}")
        semantic, numbers = self._format.decode(images)
        table = np.full(max(256, int(semantic.max(initial=0)) + 1), -2)
        for category, k in self._classes.items():
            table[category] = k
        classes = table[semantic]
        if (classes == -2).any():
            raise ValueError(
                f"prediction {path} must have classes of the dataset or {self._format.void_class}, "
                f"got {semantic[classes == -2].flat[0]}"
            )
        largest = numbers.max(initial=0, where=classes >= 0)
        if largest >= self._divisor:
            raise ValueError(
                f"prediction {path} must have numbers of tracks below the dataset's label_divisor, "
                f"{self._divisor}, got {largest}"
            )
        track = np.where(classes < 0, -1, classes * self._divisor + numbers)
        output = {"track": torch.from_numpy(track.astype(np.int32))}
        if self._has_depth and self._format.depth_file is not None:
            path = os.path.join(self._folder, _fill(self._format.depth_file, sample))
            output["depth"] = torch.from_numpy(read_depth(path))
        return output


def _category_ids(metadata: Any, void_class: int) -> np.ndarray:
    """(C + 1,) int64: the dataset's ids of the contiguous ones, and last that of void."""
    classes = DatasetClasses.from_metadata(metadata)
    ids = np.full(classes.num_classes + 1, void_class)
    for category, k in classes.category_ids.items():
        ids[k] = category
    if ids.max() > 255 or void_class in ids[:-1]:
        raise ValueError(
            f"dataset {metadata.name} must have category ids up to 255 other than {void_class}, "
            f"which is void in the files, got {ids[:-1].tolist()}"
        )
    return ids


def _fill(path: str, record: Sample) -> str:
    return path.format(sequence=record["sequence"], stem=stem_of(record["file_name"]))


def _check_size(record: Sample, name: str, image: np.ndarray) -> None:
    size = record.get("height"), record.get("width")
    if None not in size and image.shape != size:
        raise ValueError(
            f"{name_of(record)}: {name} must be {size}, as the image, got {image.shape}"
        )
