"""Samples of two frames of a video: identity over the frames, one draw for all layers."""

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab2_d2.data import (
    CenterNoise,
    Layer,
    NextFrameTargetGenerator,
    PanopticDatasetMapper,
    PanopticTargetGenerator,
    PreviousFrameTargetGenerator,
    panoptic_metadata,
)
from deeplab2_d2.data.augmentation import (
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
    ResizeToRange,
)
from deeplab2_d2.data.autoaugment import AutoAugment
from deeplab2_d2.data.copy_paste import PanopticCopyPaste
from deeplab2_d2.data.panoptic_writer import PanopticWriter, Segment
from deeplab2_d2.data.registration import load_panoptic_json

_CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1},
    {"id": 2, "name": "dog", "isthing": 1},
    {"id": 3, "name": "lawn", "isthing": 0},
]
_LAYERS = [
    Layer("previous_image", ("previous_file_name", "file_name"), "image"),
    Layer("next_image", ("next_file_name", "file_name"), "image"),
]


def _segments(rows, order):
    """Letters to segments, in the given order: cats A and B have tracks 1 and 2, dogs c and d."""
    letters = np.array([list(row) for row in rows])
    kinds = {"A": (1, 1), "B": (1, 2), "c": (2, 1), "d": (2, 2), "#": (1, 0), ".": (3, 0)}
    return [
        Segment(letters == letter, kinds[letter][0], letter == "#", track_id=kinds[letter][1])
        for letter in order
        if (letters == letter).any()
    ]


@pytest.fixture
def video(tmp_path):
    """From rows of letters, one list a frame, to the dataset dicts of a video."""

    def make(*frames, orders=("ABcd#.",) * 9, seeds=range(9)):
        root = tmp_path / "video"
        writer = PanopticWriter(
            panoptic_root=str(root / "panoptic"),
            panoptic_json=str(root / "panoptic.json"),
            categories=_CATEGORIES,
        )
        for k, (rows, order, seed) in enumerate(zip(frames, orders, seeds)):
            size = len(rows), len(rows[0])
            pixels = np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{k}.png")
            entries = {"sequence": "v", "frame": k}
            writer.add(f"{k}.png", size, _segments(rows, order), entries=entries)
        metadata = panoptic_metadata(_CATEGORIES)
        return load_panoptic_json(writer.close(), str(root), str(root / "panoptic"), metadata)

    return make


def _mapper(generator, augmentations=(), **options):
    return PanopticDatasetMapper(
        is_train=True,
        augmentations=augmentations,
        target_generator=generator,
        num_classes=3,
        thing_ids=[0, 1],
        **options,
    )


def _previous(noise=None):
    return PreviousFrameTargetGenerator(PanopticTargetGenerator(ignore_label=255), noise=noise)


def _next():
    return NextFrameTargetGenerator(PanopticTargetGenerator(ignore_label=255))


def test_an_object_is_known_by_its_track_not_by_its_place_in_the_list(video):
    # Cat A moves two pixels to the right and cat B two to the left; their order is swapped. The
    # dog has the track of cat A in its own class and is not in the frame before.
    _, frame = video([".AAA..BBB."], ["c.BBBAAA.."], orders=("AB.", "cB.A"))
    sample = _mapper(_previous())(frame)
    # A was around 2 and is at 5, 6, 7; B was around 7 and is at 2, 3, 4.
    assert sample["frame_offsets"][1].tolist() == [[0, 0, 5, 4, 3, -3, -4, -5, 0, 0]]
    assert torch.all(sample["frame_offsets"][0] == 0)
    assert sample["frame_offset_weights"].tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 0, 0]]
    assert torch.nonzero(sample["previous_heatmap"] == 1).tolist() == [[0, 0, 2], [0, 0, 7]]
    # What is of the frame itself stays so: the dog, B and A are around 0, 3 and 6.
    assert torch.nonzero(sample["center_heatmap"] == 1).tolist() == [
        [0, 0, 0],
        [0, 0, 3],
        [0, 0, 6],
    ]


def test_pixels_of_the_next_frame_point_to_where_their_object_is_now(video):
    frame, _ = video([".AAA..BBB."], ["c.BBBAAA.."], orders=("AB.", "cB.A"))
    sample = _mapper(_next())(frame)
    assert sample["next_center_offsets"][1].tolist() == [[0, 0, 5, 4, 3, -3, -4, -5, 0, 0]]
    assert sample["next_offset_weights"].tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 0, 0]]
    assert torch.nonzero(sample["center_heatmap"] == 1).tolist() == [[0, 0, 2], [0, 0, 7]]


def test_crowds_and_stuff_of_either_frame_have_no_offsets(video):
    _, frame = video(["##A.."], ["A..##"])
    sample = _mapper(_previous())(frame)
    assert sample["frame_offset_weights"].tolist() == [[1, 0, 0, 0, 0]]
    assert sample["frame_offsets"][1, 0, 0] == 2
    assert int((sample["previous_heatmap"] == 1).sum()) == 1
    assert sample["center_weights"].tolist() == [[1, 1, 1, 0, 0]]


def test_the_first_frame_is_its_own_previous_one(video):
    frame, _ = video(["AAA.."], ["..AAA"])
    sample = _mapper(_previous(), layers=_LAYERS[:1])(frame)
    assert torch.equal(sample["previous_image"], sample["image"])
    assert torch.equal(sample["previous_heatmap"], sample["center_heatmap"])
    assert torch.equal(sample["frame_offsets"], sample["center_offsets"])


def test_training_leaves_out_the_last_frame_where_the_next_one_is_needed(video):
    first, last = video(["AAA.."], ["..AAA"])
    mapper = _mapper(_next())
    assert mapper(first) is not None and mapper(last) is None


@pytest.mark.parametrize("name", ["previous", "next"])
def test_equal_frames_stay_equal_whatever_is_drawn(video, name):
    rows = ["AAAAA.....", "AAAAABBB..", ".cc..BBB##", ".cc.....##"] * 4
    frames = video(*[[4 * row for row in np.repeat(rows, 3)]] * 2, seeds=(7, 7))
    augmentations = [
        RandomScale(0.5, 2.0, 0.1),
        AutoAugment("simple_classification_policy", 1.0),
        RandomCropOrPad((41, 49)),
        RandomHorizontalFlip(),
    ]
    is_previous = name == "previous"
    mapper = _mapper(_previous() if is_previous else _next(), augmentations, layers=_LAYERS)
    offsets = "frame_offsets" if is_previous else "next_center_offsets"
    images = set()
    for seed in range(12):
        sample = mapper(frames[int(is_previous)], np.random.default_rng(seed))
        assert torch.equal(sample[f"{name}_image"], sample["image"])
        assert torch.equal(sample[offsets], sample["center_offsets"])
        if is_previous:
            assert torch.equal(sample["previous_heatmap"], sample["center_heatmap"])
        images.add(float(sample["image"].sum()))
    assert len(images) == 12


def test_the_noise_is_drawn_from_the_sample_s_generator(video):
    _, frame = video(*[["A" * 40 + "B" * 20] * 30] * 2)
    mapper = _mapper(_previous(CenterNoise(offset=0.2)))
    heatmaps = [
        mapper(frame, np.random.default_rng(seed))["previous_heatmap"] for seed in (1, 1, 2)
    ]
    assert torch.equal(heatmaps[0], heatmaps[1]) and not torch.equal(heatmaps[0], heatmaps[2])


def test_depth_is_divided_by_the_scale_of_the_image(video, tmp_path):
    frame, _ = video(*[["A" * 9] * 9] * 2)
    depth = np.arange(81, dtype=np.uint16).reshape(9, 9) * 256
    Image.fromarray(depth).save(tmp_path / "depth.png")
    layer = Layer("depth", ("depth_file_name",), "depth")
    mapper = _mapper(_next(), [ResizeToRange(17, 17)], layers=[layer])
    sample = mapper({**frame, "depth_file_name": str(tmp_path / "depth.png")})
    # Twice as far apart, so half as far away: 9 pixels lie where 17 do, corners on corners.
    assert torch.equal(sample["depth"][::2, ::2], torch.arange(81.0).view(9, 9) / 2)


def test_tracks_that_are_missing_or_shared_are_named(video):
    _, frame = video(["AAABB"], ["..AAA"])
    with_same = [dict(s, track_id=1) for s in frame["previous_segments_info"]]
    with pytest.raises(
        ValueError, match="panoptic/0.png: segment .* 'track_id' of at least 1 that"
    ):
        _mapper(_previous())({**frame, "previous_segments_info": with_same})
    without = [{k: v for k, v in s.items() if k != "track_id"} for s in frame["segments_info"]]
    with pytest.raises(ValueError, match="panoptic/1.png: segment .* 'track_id'.* got None"):
        _mapper(_previous())({**frame, "segments_info": without})


def test_an_image_that_is_no_frame_is_refused(video):
    frame, _ = video(["AAA.."], ["..AAA"])
    image = {key: frame[key] for key in ("file_name", "pan_seg_file_name", "segments_info")}
    with pytest.raises(ValueError, match="0.png must have 'sequence' and 'frame' for pairs"):
        _mapper(_previous())(image)


def test_an_other_frame_of_another_size_is_named(video):
    _, frame = video(["AAA.."], ["..AAAA"])
    with pytest.raises(ValueError, match="panoptic/0.png has size 1 x 5, but .*1.png has 1 x 6"):
        _mapper(_previous())(frame)


def test_nothing_is_pasted_into_pairs():
    paste = PanopticCopyPaste(thing="all", stuff="none", void="none")
    with pytest.raises(ValueError, match="copy_paste must be None .* with pairs of frames"):
        _mapper(_previous(), copy_paste=paste)
