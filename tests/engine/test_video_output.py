"""The files of a video, read back."""

import json

import numpy as np
import pytest
import torch

from deeplab2_d2.engine.video_output import TrackLog, VideoFile

cv2 = pytest.importorskip("cv2")

METADATA = {
    "name": "hand-made",
    "thing_classes": ["sky", "car"],
    "stuff_classes": ["sky", "car"],
    "thing_dataset_id_to_contiguous_id": {26: 1},
    "stuff_dataset_id_to_contiguous_id": {23: 0},
    "label_divisor": 10,
}


def test_a_video_has_the_pictures_that_were_added_and_is_there_once_it_is_closed(tmp_path):
    path = tmp_path / "new" / "x.mp4"
    file = VideoFile(str(path), 12.5)
    colors = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]
    for color in colors:
        # An odd row and an odd column are left out.
        file.add(np.full((33, 49, 3), color, np.uint8))
    assert not path.exists()
    file.close()
    assert [p.name for p in path.parent.iterdir()] == ["x.mp4"]
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 12.5
    frames = [capture.read()[1] for _ in colors]
    assert not capture.read()[0]
    for frame, color in zip(frames, colors):
        assert frame.shape == (32, 48, 3)
        np.testing.assert_allclose(frame[:, :, ::-1].mean(axis=(0, 1)), color, atol=12)


def test_a_video_without_frames_is_no_file(tmp_path):
    file = VideoFile(str(tmp_path / "x.mp4"), 10)
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"of the run before")
    file = VideoFile(str(path), 12.5)
    with pytest.raises(ValueError, match=f"OpenCV cannot write {path}, 0 x 0 pixels at 12.5"):
        file.add(np.zeros((1, 1, 3), np.uint8))
    file.close()
    assert path.read_bytes() == b"of the run before" and len(list(tmp_path.iterdir())) == 1


def test_tracks_are_listed_with_their_frames_boxes_and_areas(tmp_path):
    log = TrackLog(str(tmp_path / "tracks.json"), METADATA, label_divisor=100)
    frames = torch.full((3, 4, 6), -1, dtype=torch.int32)
    frames[:, 3] = 0  # Stuff.
    frames[0, 0:2, 1:4] = 107
    frames[0, 2, 5] = 102
    frames[2, 1, 1], frames[2, 2, 3] = 107, 107
    for frame in frames:
        log.add(frame)
    log.close()
    content = json.loads((tmp_path / "tracks.json").read_text())
    head = {"category_id": 26, "category": "car"}
    assert content == {
        "num_frames": 3,
        "label_divisor": 100,
        "tracks": [
            {
                "id": 103,
                **head,
                "number": 2,
                "frames": [{"frame": 0, "bbox": [5, 2, 1, 1], "area": 1}],
            },
            {
                "id": 108,
                **head,
                "number": 7,
                "frames": [
                    {"frame": 0, "bbox": [1, 0, 3, 2], "area": 6},
                    {"frame": 2, "bbox": [1, 1, 3, 2], "area": 2},
                ],
            },
        ],
    }


def test_a_video_without_tracks_is_an_empty_list(tmp_path):
    log = TrackLog(str(tmp_path / "tracks.json"), METADATA, label_divisor=100)
    log.add(torch.full((4, 6), -1))
    log.close()
    assert json.loads((tmp_path / "tracks.json").read_text())["tracks"] == []
