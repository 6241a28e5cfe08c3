"""A model of single images, tracked, in a runner over interleaved and plain sequences."""

import numpy as np
import pytest
import torch
from torch import nn

from deeplab2_d2.video import SequenceRunner, TrackedSegmenter, label_panoptic_seg


class _Bars(nn.Module):
    """Says of each image that it has the bars that the sample tells, numbered from the left."""

    def forward(self, samples):
        outputs = []
        for sample in samples:
            segment_map = torch.zeros(4, 40, dtype=torch.int32)
            segments = []
            for k, x in enumerate(sorted(sample["bars"])):
                segment_map[:, x : x + 10] = 11 + k
                segments.append({"id": 11 + k, "category_id": 3, "isthing": True})
            outputs.append({"panoptic_seg": (segment_map, segments), "seen": sorted(sample)})
        return outputs


def _sample(sequence, frame, *bars):
    return {"sequence": sequence, "frame": frame, "bars": bars}


def test_a_runner_carries_the_tracks_from_frame_to_frame_and_begins_each_sequence_anew():
    model = TrackedSegmenter(_Bars(), label_divisor=100)
    samples = [_sample("a", 0, 12), _sample("a", 1, 0, 14), _sample("b", 0, 25, 5)]
    outputs = SequenceRunner(model)(samples)
    assert [int(output["track"][0, 15]) for output in outputs[:2]] == [301, 301]
    assert outputs[1]["track"][0, 5] == 302 and outputs[1]["track"][0, 30] == -1
    assert outputs[2]["track"][0, [5, 25]].tolist() == [301, 302]
    assert all(output["track"].dtype == torch.int32 for output in outputs)
    assert all("state" not in output and "panoptic_seg" in output for output in outputs)


def test_two_runners_of_one_model_do_not_mix_their_streams():
    model = TrackedSegmenter(_Bars(), label_divisor=100)
    streams = [
        [_sample("s", k, 12 + k) for k in range(3)],
        [_sample("s", k, 20 - k, 2) for k in range(3)],
    ]
    alone = [SequenceRunner(model)(samples) for samples in streams]
    runners = [SequenceRunner(model), SequenceRunner(model)]
    for k in range(3):
        for stream in range(2):
            (output,) = runners[stream]([streams[stream][k]])
            assert torch.equal(output["track"], alone[stream][k]["track"])


def test_the_flow_of_the_images_is_used_and_brought_to_the_size_of_the_maps():
    cv2 = pytest.importorskip("cv2")
    noise = np.random.default_rng(0).normal(size=(48, 200)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 8)
    scene = torch.from_numpy(128 + 50 * smooth / smooth.std()).expand(3, -1, -1)
    # The images are four times as large as the maps; the scene moves by 7 columns of the maps.
    samples = [
        {**_sample("a", 0, 5), "image": scene[:, :, 30:190]},
        {**_sample("a", 1, 12), "image": scene[:, :, 2:162]},
    ]
    for use_flow, number in ((False, 302), (True, 301)):
        model = TrackedSegmenter(_Bars(), label_divisor=100, use_flow=use_flow)
        _, second = SequenceRunner(model)(samples)
        # 3 of 17 columns overlap without it.
        assert second["track"][0, 15] == number


def test_things_count_within_their_class_stuff_has_no_number_and_the_rest_is_void():
    segment_map = torch.tensor([[7, 7, 2, 3, 5, 0, 9]])
    segments = [
        {"id": 7, "category_id": 1, "isthing": True},
        {"id": 2, "category_id": 0, "isthing": False},
        {"id": 5, "category_id": 1, "isthing": True},
        {"id": 3, "category_id": 4, "isthing": True},
    ]
    labels = label_panoptic_seg(segment_map, segments, label_divisor=10)
    assert labels.tolist() == [[11, 11, 0, 41, 12, -1, -1]] and labels.dtype == torch.int32
    assert label_panoptic_seg(segment_map, [], label_divisor=10).tolist() == [[-1] * 7]
    with pytest.raises(ValueError, match="fewer than label_divisor = 2 things, got 2 of class 1"):
        label_panoptic_seg(segment_map, segments, label_divisor=2)
