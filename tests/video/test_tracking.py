"""Tracks of hand-made videos; the numbers of DeepLab2 are in tests/parity."""

from typing import List, Tuple

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplab2_d2.video import TrackState, continue_tracks, draw_centers, start_tracks

_DIVISOR = 100
_SIZE = (20, 60)


def _frame(*objects: Tuple[int, int, int]) -> Tensor:
    """A map of class-3 squares of 5 x 5 pixels: (y, x) of their corner and their number."""
    panoptic = torch.full(_SIZE, -1, dtype=torch.int32)
    panoptic[:, :10] = 200  # Stuff.
    for y, x, number in objects:
        panoptic[y : y + 5, x : x + 5] = 300 + number
    return panoptic


def _run(
    frames: List[Tensor], state: TrackState, **options: int
) -> Tuple[List[Tensor], TrackState]:
    still = torch.zeros(2, *_SIZE)
    tracked = []
    for frame in frames:
        panoptic, state, _ = continue_tracks(frame, still, state, label_divisor=_DIVISOR, **options)
        tracked.append(panoptic)
    return tracked, state


def test_numbers_follow_objects_and_not_their_order() -> None:
    # Squares move by two pixels a frame; the second frame numbers them the other way round.
    frames = [_frame((2, 20, 1), (10, 30, 2)), _frame((2, 22, 2), (10, 28, 1))]
    (first, second), state = _run(frames, start_tracks())
    assert first[4, 22] == 301 and first[12, 32] == 302
    assert second[4, 24] == 301 and second[12, 30] == 302
    assert state.next_number == 3
    # What is no instance stays as it is.
    assert torch.equal(second[:, :10], frames[1][:, :10]) and second[0, 59] == -1


def test_an_object_beyond_reach_begins_a_track_and_offsets_bring_it_within() -> None:
    # A box of 5 x 5 reaches 16 squared: 4 pixels are not below it.
    frames = [_frame((2, 20, 1)), _frame((2, 24, 1))]
    (_, second), _ = _run(frames, start_tracks())
    assert second[4, 26] == 302
    _, state, _ = continue_tracks(
        frames[0], torch.zeros(2, *_SIZE), start_tracks(), label_divisor=_DIVISOR
    )
    offsets = torch.tensor([0.0, -4.0])[:, None, None].expand(2, *_SIZE)
    second, _, _ = continue_tracks(frames[1], offsets, state, label_divisor=_DIVISOR)
    assert second[4, 26] == 301


@pytest.mark.parametrize("gap, number", [(5, 301), (6, 302)])
def test_a_track_waits_so_many_frames(gap: int, number: int) -> None:
    seen, empty = _frame((2, 20, 1)), _frame()
    tracked, _ = _run([seen, *[empty] * gap, seen], start_tracks(), keep_frames=7)
    assert tracked[-1][4, 22] == number


def test_another_class_is_another_track() -> None:
    first, second = _frame((2, 20, 1)), _frame((2, 20, 1))
    second[second == 301] = 401
    (_, tracked), state = _run([first, second], start_tracks())
    assert tracked[4, 22] == 402
    assert state.labels.tolist() == [402, 301]


def test_two_videos_at_once_are_as_one_after_the_other_and_a_paused_one_goes_on() -> None:
    streams = [
        [_frame((2, 20 + 2 * k, 1), (12, 40 - k, 2)) for k in range(4)],
        [_frame((10, 15, 1))] * 4 + [_frame((10, 16, 1), (1, 40, 2))],
    ]
    alone = [_run(frames, start_tracks()) for frames in streams]
    states = [start_tracks(), start_tracks()]
    together: List[List[Tensor]] = [[], []]
    for step in range(5):
        for stream, frames in enumerate(streams):
            if step < len(frames):
                (panoptic,), states[stream] = _run([frames[step]], states[stream])
                together[stream].append(panoptic)
    for stream in range(2):
        assert all(map(torch.equal, alone[stream][0], together[stream]))
        for found, expected in zip(states[stream], alone[stream][1]):
            assert np.array_equal(found, expected)
    # Equal frames keep their number.
    assert [int(panoptic[12, 17]) for panoptic in together[1]] == [301] * 5


def test_numbers_stay_below_the_divisor() -> None:
    state = start_tracks()._replace(next_number=99)
    (panoptic,), state = _run([_frame((2, 20, 1))], state)
    assert panoptic[4, 22] == 399
    with pytest.raises(ValueError, match="fewer than label_divisor = 100 tracks"):
        _run([_frame((12, 50, 1))], state)


def test_offsets_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frame_offsets must be \(2, 20, 60\), got \(2, 5, 60\)"):
        continue_tracks(_frame(), torch.zeros(2, 5, 60), start_tracks(), label_divisor=_DIVISOR)


def test_a_heatmap_is_the_largest_of_its_gaussians() -> None:
    heatmap = draw_centers(torch.tensor([[0, 3], [9, 12]]), (10, 14), sigma=2)
    y, x = np.mgrid[:10, :14]
    expected = np.zeros((10, 14))
    for cy, cx in ((0, 3), (9, 12)):
        inside = (abs(y - cy) <= 7) & (abs(x - cx) <= 7)
        gaussian = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8)
        expected = np.maximum(expected, np.where(inside, gaussian, 0))
    np.testing.assert_allclose(heatmap.numpy(), expected, atol=1e-6)
