"""Files for servers of videos hold the predictions: read back, they have the same scores."""

import copy

import numpy as np
import pytest
import tiny_videos as videos
import torch
from PIL import Image

from deeplab2_d2.evaluation import (
    VideoEvaluator,
    VideoFilePredictor,
    VideoSubmission,
    build_video_evaluators,
)

NAME = "deeplab2_d2_videos_to_submit"


@pytest.fixture
def dataset(tmp_path):
    records, outputs, metadata = videos.make_video_dataset(tmp_path / "data")
    # The DVPS formats have all frames in one folder.
    for record in records:
        record["file_name"] = f"{record['sequence']}/{record['sequence']}_{record['frame']:06d}.jpg"
    videos.register(NAME, records, metadata)
    yield records, outputs, metadata
    videos.remove(NAME)


@pytest.mark.parametrize(
    "format_name, has_depth",
    [("step", False), ("cityscapes_dvps", True), ("semkitti_dvps", True)],
)
def test_files_read_back_have_the_scores_of_the_predictions(
    dataset, run, tmp_path, format_name, has_depth
):
    records, outputs, _ = dataset
    folder = str(tmp_path / "out")
    writer = VideoSubmission(NAME, folder, format_name, has_depth=True)
    assert run(writer, records, outputs) == {}
    predict = VideoFilePredictor(NAME, folder, format_name, has_depth=True)
    read = [predict([record])[0] for record in records]
    for output, expected in zip(read, outputs):
        assert torch.equal(output["track"], expected["track"])
        assert ("depth" in output) == has_depth
    evaluator = VideoEvaluator(NAME, has_depth=has_depth)
    assert run(evaluator, records, read) == run(evaluator, records, outputs)


# Of ViP-DeepLab's cityscapes-dvps/eval_dvpq.py (commit f1c0c43ea5), for the files of the
# test below, by number of frames: without depth and with lambdas 0.5, 0.25 and 0.1. Means are over
# the four classes, and its 16-bit depths are read with a sign, as older versions of Pillow do.
SCRIPT_SCORES = {
    1: (73.604090, 64.389134, 56.901352, 45.587144),
    2: (71.714818, 65.017957, 60.316525, 50.493986),
    3: (70.982041, 63.528518, 58.462827, 51.686285),
    4: (69.088287, 62.757285, 57.624658, 51.934832),
}


def test_the_scores_of_the_files_are_those_of_vip_deeplabs_script(dataset, run, tmp_path):
    records, outputs, metadata = dataset
    length = videos.LENGTHS["long"]
    records, outputs = copy.deepcopy(records[:length]), outputs[:length]
    # The script knows no crowds: here they are an object each.
    for record in records:
        for segment in record["segments_info"]:
            if segment["iscrowd"]:
                segment.update(iscrowd=0, track_id=77)
    videos.remove(NAME)
    videos.register(NAME, records, metadata)
    folder = str(tmp_path / "out")
    run(VideoSubmission(NAME, folder, "cityscapes_dvps", has_depth=True), records, outputs)
    predict = VideoFilePredictor(NAME, folder, "cityscapes_dvps", has_depth=True)
    scores = run(VideoEvaluator(NAME, has_depth=True), records, predict(records))
    for frames, expected in SCRIPT_SCORES.items():
        ours = [scores["vpq"][f"VPQ-{frames}"]]
        ours += [scores["dvpq"][f"DVPQ-{frames}@{limit}"] for limit in (0.5, 0.25, 0.1)]
        assert ours == pytest.approx(expected, abs=1e-6)


def _write(dataset, folder, format_name, track, depth=None):
    """Files of the first sequence's first frame alone."""
    records, _, metadata = dataset
    videos.remove(NAME)
    sizes = ("height", "width")
    record = {key: value for key, value in records[0].items() if key not in sizes}
    videos.register(NAME, [record], metadata)
    writer = VideoSubmission(NAME, str(folder), format_name, has_depth=depth is not None)
    output = {"track": torch.tensor([track], dtype=torch.int32)}
    if depth is not None:
        output["depth"] = torch.tensor([depth])
    writer.reset()
    writer.process([{**record, "height": 1, "width": 3}], [output])
    writer.evaluate()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): np.asarray(Image.open(p))[0].tolist() for p in files}


def test_step_has_the_class_in_red_and_the_number_in_green_and_blue(dataset, tmp_path):
    # 999 = 3 * 256 + 231. The dataset's category id of class 1 is 17, of class 2 it is 27.
    files = _write(dataset, tmp_path / "out", "step", [1999, 2000, -1])
    assert files == {"long/long_000003.png": [[17, 3, 231], [27, 0, 0], [255, 0, 0]]}


def test_cityscapes_dvps_has_two_channels_and_depth_beside_them(dataset, tmp_path):
    depth = [1.0, 2.001, 300.0]
    files = _write(dataset, tmp_path / "out", "cityscapes_dvps", [1200, 2000, -1], depth)
    # ViP-DeepLab's script has 20 classes, of which 19 is not evaluated.
    assert files == {
        "panoptic/long_000003.png": [[17, 200, 0], [27, 0, 0], [19, 0, 0]],
        "depth/long_000003.png": [256, 512, 65535],
    }


def test_semkitti_dvps_has_a_file_of_classes_and_one_of_numbers(dataset, tmp_path):
    files = _write(dataset, tmp_path / "out", "semkitti_dvps", [1999, 2000, -1])
    assert files == {
        "panoptic/long_000003_cat.png": [17, 27, 19],
        "panoptic/long_000003_ins.png": [999, 0, 0],
    }


@pytest.mark.parametrize(
    "track, error",
    [
        ([1256, 0, 0], "frame 3 of sequence 'long'.* numbers of tracks up to 255, got 256"),
        ([4000, 0, 0], "frame 3 of sequence 'long'.* classes below 4, got 4"),
        ([0, 0], r"frame 3 of sequence 'long'.* must be \(1, 3\), as the image, got \(1, 2\)"),
    ],
)
def test_what_cannot_be_written_is_named(dataset, tmp_path, track, error):
    with pytest.raises(ValueError, match=error):
        _write(dataset, tmp_path / "out", "cityscapes_dvps", track)


def test_an_interrupted_or_incomplete_run_leaves_the_files_of_the_run_before(
    dataset, run, tmp_path
):
    records, outputs, _ = dataset
    writer = VideoSubmission(NAME, str(tmp_path / "out"), "step", has_depth=False)
    run(writer, records, outputs)
    void = [{"track": torch.full_like(output["track"], -1)} for output in outputs]
    with pytest.raises(ValueError, match="frame 11 of sequence 'middle' is missing"):
        run(writer, records[:-1], void)
    first = Image.open(tmp_path / "out" / "long" / "long_000003.png")
    assert (np.asarray(first)[..., 0] != 255).any()
    run(writer, records, void)
    first = Image.open(tmp_path / "out" / "long" / "long_000003.png")
    assert (np.asarray(first)[..., 0] == 255).all()
    assert not list(tmp_path.glob("out.partial*"))


def test_a_class_that_the_dataset_has_not_is_named_with_its_file(dataset, tmp_path):
    records, _, _ = dataset
    path = tmp_path / "long" / "long_000003.png"
    path.parent.mkdir()
    Image.fromarray(np.full((18, 24, 3), 9, np.uint8)).save(path)
    predict = VideoFilePredictor(NAME, str(tmp_path), "step", has_depth=False)
    with pytest.raises(ValueError, match=f"{path} must have classes .* or 255, got 9"):
        predict(records[:1])


def test_a_number_that_the_dataset_cannot_hold_is_no_other_class(dataset, tmp_path):
    records, _, _ = dataset
    path = tmp_path / "long" / "long_000003.png"
    path.parent.mkdir()
    # Class 7 (the first) and 4 * 256 + 3 = 1027, of a divisor of 1000: not number 27 of the next.
    Image.fromarray(np.full((18, 24, 3), (7, 4, 3), np.uint8)).save(path)
    predict = VideoFilePredictor(NAME, str(tmp_path), "step", has_depth=False)
    with pytest.raises(
        ValueError, match=f"{path} must have numbers .* label_divisor, 1000, got 1027"
    ):
        predict(records[:1])
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
    with pytest.raises(ValueError, match=f"{path} must have the channels of a color, got"):
        predict(records[:1])


def test_frames_of_one_file_and_unknown_formats_are_refused(dataset, tmp_path):
    records, _, metadata = dataset
    with pytest.raises(ValueError, match="one of step, .* got 'vps'"):
        VideoSubmission(NAME, str(tmp_path), "vps", has_depth=False)
    for record in records:
        record["file_name"] = f"{record['sequence']}/{record['frame']}.jpg"
    VideoSubmission(NAME, str(tmp_path), "step", has_depth=False)
    with pytest.raises(ValueError, match="got long/3.jpg and short/3.jpg"):
        VideoSubmission(NAME, str(tmp_path), "semkitti_dvps", has_depth=False)
    videos.remove(NAME)
    ids = {7: 0, 19: 1}
    videos.register(NAME, records, {**metadata, "thing_dataset_id_to_contiguous_id": ids})
    with pytest.raises(ValueError, match="category ids .* other than 19"):
        VideoSubmission(NAME, str(tmp_path), "semkitti_dvps", has_depth=False)


@pytest.mark.parametrize("sequence", ["../../outside", "/tmp/outside", "a\0b", "a\nb"], ids=ascii)
def test_a_sequence_whose_name_leads_out_of_the_folder_is_refused(dataset, tmp_path, sequence):
    records, _, metadata = dataset
    for record in records:
        record["sequence"] = sequence if record["sequence"] == "long" else record["sequence"]
    with pytest.raises(ValueError, match="must lead to a file in the folder that is written to"):
        VideoSubmission(NAME, str(tmp_path), "step", has_depth=False)


def test_a_dataset_without_ground_truth_gets_files_of_its_format(dataset, tmp_path):
    records, _, metadata = dataset
    videos.remove(NAME)
    changed = {**metadata, "has_ground_truth": False, "video_format": "semkitti_dvps"}
    videos.register(NAME, records, changed)
    (writer,) = build_video_evaluators(NAME, ["track", "depth"], str(tmp_path))
    assert isinstance(writer, VideoSubmission)
    assert build_video_evaluators(NAME, ["depth"], str(tmp_path)) == []
