"""What is written of a tracked video: an mp4, and a JSON of the tracks."""

import contextlib
import json
import os
import tempfile
from typing import Any, Dict, Iterator, Optional

import numpy as np
from torch import Tensor

from ..structures import DatasetClasses, atomic_path
from ..video import find_instances, find_runs, find_segments

# Label, frame, box (y0, x0, y1, x1) and area of an instance.
_ROW = np.dtype([("label", "<i8"), ("frame", "<i8"), ("box", "<i4", 4), ("area", "<i8")])


class VideoFile:
    """
    An mp4 (MPEG-4, which needs no further codec) that is whole once it is closed.

    Attributes:
        num_frames: that were added.
    """

    def __init__(self, path: str, frames_per_second: float):
        """
        Args:
            path: the file. Its folder is made.
            frames_per_second: of the video.
        """
        self.path = path
        self.num_frames = 0
        self._frames_per_second = frames_per_second
        self._stack = contextlib.ExitStack()
        self._writer: Optional[Any] = None

    def add(self, picture: np.ndarray) -> None:
        """
        Args:
            picture: (H, W, 3) uint8 RGB, all of one size; an odd last row or column is left out,
                which the codec does not have.

        Raises:
            ValueError: if OpenCV cannot write such a video.
        """
        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        if self._writer is None:
            self._writer = self._open(width, height)
        self._writer.write(np.ascontiguousarray(picture[:height, :width, ::-1]))
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file; without a frame there is none."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._stack.close()

    def _open(self, width: int, height: int) -> Any:
        import cv2

        with contextlib.ExitStack() as stack:
            path = stack.enter_context(atomic_path(self.path))
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(path, codec, self._frames_per_second, (width, height))
            if not writer.isOpened():
                raise ValueError(
                    f"OpenCV cannot write {self.path}, {width} x {height} pixels at "
                    f"{self._frames_per_second} frames per second"
                )
            # The file is finished by :meth:`close`.
            self._stack = stack.pop_all()
        return writer


class TrackLog:
    """
    The tracks of a video by frame, kept in a file, so that a long video takes no more memory.

    The JSON has ``tracks``, a list in the order of classes and numbers, each with ``id`` (its label
    + 1, as in panoptic PNGs), ``category_id`` and ``category`` of the dataset, ``number`` (in its
    class), and ``frames``: a list of ``frame``, ``bbox`` (``[x, y, width, height]``) and ``area``
    in pixels. Beside it stand ``num_frames`` and ``label_divisor``.
    """

    def __init__(self, path: str, metadata: Any, *, label_divisor: int):
        """
        Args:
            path: the JSON. Its folder is made.
            metadata: classes and ids of the dataset that the model was trained on.
            label_divisor: of the labels that will be added.
        """
        self.path = path
        self._categories = DatasetClasses.from_metadata(metadata).categories
        self._label_divisor = label_divisor
        self._num_frames = 0
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        self._rows = tempfile.TemporaryFile(dir=folder)

    def add(self, track: Tensor) -> None:
        """
        Args:
            track: of the next frame, (H, W) integer: class * label_divisor + number.
        """
        segments = find_segments(find_runs(track.cpu()))
        instances = find_instances(segments, self._label_divisor)
        rows = np.empty(len(instances.labels), _ROW)
        rows["label"], rows["frame"] = instances.labels.numpy(), self._num_frames
        rows["box"], rows["area"] = instances.boxes.numpy(), instances.areas.numpy()
        self._rows.write(rows.tobytes())
        self._num_frames += 1

    def close(self) -> None:
        """Write the JSON."""
        self._rows.flush()
        with atomic_path(self.path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for text in self._texts():
                file.write(text)
        self._rows.close()

    def _texts(self) -> Iterator[str]:
        """The JSON, a line for a track."""
        head = {"num_frames": self._num_frames, "label_divisor": self._label_divisor}
        yield json.dumps(head)[:-1] + ', "tracks": ['
        size = self._rows.seek(0, os.SEEK_END)
        rows = np.memmap(self._rows, _ROW, "r") if size else np.zeros(0, _ROW)
        # Stable, so that frames stay in their order.
        order = np.argsort(rows["label"], kind="stable")
        last: Optional[int] = None
        for index in order:
            label = int(rows["label"][index])
            if label != last:
                yield ("\n" if last is None else "]},\n") + self._head(label)
            yield ("" if label != last else ", ") + json.dumps(_describe(rows[index]))
            last = label
        yield "" if last is None else "]}"
        yield "\n]}\n"

    def _head(self, label: int) -> str:
        category_id, number = divmod(label, self._label_divisor)
        category = self._categories[category_id]
        track = {
            "id": label + 1,
            "category_id": category["id"],
            "category": category["name"],
            "number": number,
        }
        return json.dumps(track)[:-1] + ', "frames": ['


def _describe(row: np.void) -> Dict[str, Any]:
    top, left, bottom, right = row["box"].tolist()
    return {
        "frame": int(row["frame"]),
        "bbox": [left, top, right - left + 1, bottom - top + 1],
        "area": int(row["area"]),
    }
