"""Frames of files, folders and streams, against what was written."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.engine.image_stream import split_images
from deeplab2_d2.engine.video_input import open_video

cv2 = pytest.importorskip("cv2")


def _pictures(count, size=(24, 32)):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(count)]


def _encoded(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **options)
    return file.getvalue()


class _Pipe:
    """A stream that gives a few bytes at a time, as a slow sender does."""

    def __init__(self, content, step):
        self._file, self._step = io.BytesIO(content), step

    def read1(self, size):
        return self._file.read(min(size, self._step))


@pytest.mark.parametrize("step", [1, 7, 100000])
def test_a_stream_is_split_into_the_files_it_is_made_of(step):
    first, second, third = _pictures(3)
    thumbnail = _encoded(first[:8, :8], format="JPEG")
    files = [
        _encoded(first, format="PNG"),
        _encoded(first, format="JPEG", quality=95),
        # Several scans with tables between them, and a file within the file.
        _encoded(second, format="JPEG", progressive=True, exif=b"Exif\0\0" + thumbnail),
        _encoded(third, format="JPEG", restart_marker_rows=1),
        _encoded(third, format="PNG"),
    ]
    assert list(split_images(_Pipe(b"".join(files), step))) == files


def test_an_image_is_given_before_the_next_one_comes():
    files = [_encoded(picture, format="JPEG") for picture in _pictures(2)]

    def blocks():
        yield files[0]
        raise AssertionError("it was waited for the second image")

    class Pipe:
        read1 = staticmethod(lambda size, source=blocks(): next(source))

    assert next(split_images(Pipe())) == files[0]


def test_what_is_no_image_and_what_is_cut_short_is_named():
    first, second = (_encoded(p, format=f) for p, f in zip(_pictures(2), ("PNG", "JPEG")))
    with pytest.raises(ValueError, match="image 1 of the stream must be a JPEG or a PNG, it begi"):
        list(split_images(io.BytesIO(first + b"--boundary\r\n")))
    for whole, index in ((first, 0), (second, 0), (first + second, 1)):
        with pytest.raises(ValueError, match=f"image {index} of the stream must be whole"):
            list(split_images(io.BytesIO(whole[:-1])))


def test_frames_of_a_folder_come_in_the_order_of_their_names_and_of_a_stream_in_its_own(tmp_path):
    pictures = _pictures(3)
    for name, picture in zip(("b.png", "a.png", "c.png"), pictures):
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    video = open_video(str(tmp_path))
    assert video.num_frames == 3 and video.frames_per_second is None
    for frame, index in zip(video.frames, (1, 0, 2)):
        assert np.array_equal(frame[:, :, ::-1], pictures[index])
    stream = io.BytesIO(b"".join(_encoded(picture, format="PNG") for picture in pictures))
    for frame, picture in zip(open_video("-", stream=stream).frames, pictures):
        assert np.array_equal(frame[:, :, ::-1], picture)


def test_a_video_file_tells_its_rate_and_its_frames(tmp_path):
    path = str(tmp_path / "x.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (32, 24))
    for level in (10, 120, 240):
        writer.write(np.full((24, 32, 3), level, np.uint8))
    writer.release()
    video = open_video(path)
    assert (video.frames_per_second, video.num_frames) == (12.0, 3)
    means = [frame.mean() for frame in video.frames]
    assert np.allclose(means, [10, 120, 240], atol=2)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.mp4: no such file or folder"):
        open_video(str(tmp_path / "nothing.mp4"))
    with pytest.raises(ValueError, match="must have an image"):
        open_video(str(tmp_path))
    with pytest.raises(ValueError, match="it is empty"):
        list(open_video("-", stream=io.BytesIO()).frames)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="broken.mp4 cannot be opened"):
        open_video(str(tmp_path / "broken.mp4"))
    Image.fromarray(_pictures(1)[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="b.png cannot be read as an image"):
        list(open_video(str(tmp_path)).frames)
    Image.fromarray(_pictures(1, (24, 30))[0]).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"frame 1 must be of .* \(24, 32\), got \(24, 30\)"):
        list(open_video(str(tmp_path)).frames)


def test_a_small_file_that_unfolds_to_gigabytes_is_refused(monkeypatch):
    # Twenty thousand pixels a side are 1.2 GB; PIL's own limit is lifted by some users.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    content = bytearray(_encoded(np.zeros((4, 4, 3), np.uint8), format="PNG"))
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(ValueError, match="image 0 of the stream must have at most 268435456 pixel"):
        next(open_video("-", stream=io.BytesIO(bytes(content))).frames)
