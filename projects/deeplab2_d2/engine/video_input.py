"""The frames of a video, a camera, a folder or a stream, one at a time, read with OpenCV."""

import io
import os
from io import BufferedIOBase
from typing import Any, Iterator, NamedTuple, Optional

import numpy as np
from PIL import Image

from ..structures import IMAGE_ENDINGS, list_image_names
from .image_stream import split_images

# Of a frame, where PIL's own limit is lifted: more than any camera's.
_MAX_PIXELS = 1 << 28


class VideoInput(NamedTuple):
    """
    A video that is read while it is used.

    Attributes:
        frames: (H, W, 3) uint8 BGR, all of one size; to be iterated over once.
        frames_per_second: None where the source does not tell.
        num_frames: None where the source does not tell, or has no end.
    """

    frames: Iterator[np.ndarray]
    frames_per_second: Optional[float] = None
    num_frames: Optional[int] = None


def open_video(source: str, *, stream: Optional[BufferedIOBase] = None) -> VideoInput:
    """
    Args:
        source: a video file; a number, that of a camera; a folder of images, in the order of their
            names; or ``-`` for ``stream``.
        stream: concatenated JPEGs or PNGs, see :func:`split_images`.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if OpenCV cannot open it or there is no image; while iterating, if a frame
            cannot be read or is of another size than the first.
    """
    if source == "-":
        if stream is None:
            raise ValueError("source '-' must have a stream, got None")
        return VideoInput(_one_size(_read_stream(stream)))
    if source.isdigit():
        return _open_capture(int(source), f"camera {source}")
    if os.path.isdir(source):
        names = list_image_names(source)
        if not names:
            raise ValueError(f"folder {source} must have an image ({', '.join(IMAGE_ENDINGS)})")
        paths = [os.path.join(source, name) for name in names]
        return VideoInput(_one_size(map(_read_file, paths)), num_frames=len(paths))
    if not os.path.isfile(source):
        raise FileNotFoundError(f"{source}: no such file or folder")
    return _open_capture(source, f"video {source}")


def _open_capture(source: Any, name: str) -> VideoInput:
    import cv2

    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise ValueError(f"{name} cannot be opened by OpenCV")
    rate, count = (capture.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
    # Cameras have no number of frames, and some files none that is true.
    frames = _one_size(_read_capture(capture, name))
    return VideoInput(frames, rate if rate > 0 else None, int(count) if count > 0 else None)


def _read_capture(capture: Any, name: str) -> Iterator[np.ndarray]:
    is_empty = True
    try:
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            is_empty = False
            yield frame
    finally:
        capture.release()
    if is_empty:
        raise ValueError(f"{name} must have a frame that OpenCV can read")


def _read_file(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        return _decode(file.read(), path)


def _read_stream(stream: BufferedIOBase) -> Iterator[np.ndarray]:
    index = -1
    for index, content in enumerate(split_images(stream)):
        yield _decode(content, f"image {index} of the stream")
    if index < 0:
        raise ValueError("the stream must have an image, it is empty")


def _decode(content: bytes, name: str) -> np.ndarray:
    import cv2

    _check_pixels(content, name)
    frame = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if frame is None:
        raise ValueError(f"{name} cannot be read as an image by OpenCV")
    return frame


def _check_pixels(content: bytes, name: str) -> None:
    """Refuse what OpenCV would unfold to gigabytes; PIL knows the size beforehand."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            num_pixels = image.width * image.height
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} cannot be read as an image: {error}") from error
    except (OSError, SyntaxError, ValueError):
        return  # OpenCV decides.
    if num_pixels > _MAX_PIXELS:
        raise ValueError(f"{name} must have at most {_MAX_PIXELS} pixels, got {num_pixels}")


def _one_size(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    size = None
    for index, frame in enumerate(frames):
        size = size or frame.shape
        if frame.shape != size:
            raise ValueError(
                f"frame {index} must be of the first one's size, {size[:2]}, got {frame.shape[:2]}"
            )
        yield frame
