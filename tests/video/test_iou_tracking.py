"""Tracks by overlap, worked by hand and beside a search through all assignments."""

import itertools
from typing import List, Optional, Tuple

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplab2_d2.video import Flow, IouTrackState, start_iou_tracks, track_by_overlap

_DIVISOR = 100
_SIZE = (8, 40)


def _frame(*objects: Tuple[int, int], divisor: int = _DIVISOR) -> Tensor:
    """A map of bars of 4 x 10 pixels: x of their left end, and their label."""
    panoptic = torch.full(_SIZE, -1, dtype=torch.int32)
    panoptic[6:] = 2 * divisor  # Stuff.
    for x, label in objects:
        panoptic[1:5, x : x + 10] = label
    return panoptic


def _run(
    frames: List[Tensor], state: IouTrackState, **options: float
) -> Tuple[List[Tensor], IouTrackState]:
    tracked = []
    for frame in frames:
        panoptic, state = track_by_overlap(frame, state, label_divisor=_DIVISOR, **options)
        tracked.append(panoptic)
    return tracked, state


def test_numbers_follow_objects_and_not_their_order() -> None:
    # Each moves by two columns: intersection over union 8 / 12.
    frames = [_frame((0, 301), (20, 302)), _frame((2, 302), (18, 301))]
    (first, second), state = _run(frames, start_iou_tracks())
    assert torch.equal(first, frames[0])
    assert torch.equal(second, _frame((2, 301), (18, 302)))
    assert second.dtype == torch.int32 and state.next_number == 3
    assert state.labels.tolist() == [301, 302] and state.ages.tolist() == [0, 0]


# Bars that move by d columns overlap by (10 - d) / (10 + d).
@pytest.mark.parametrize("shift, number", [(5, 1), (6, 2)])
def test_an_overlap_of_a_third_is_a_match_and_of_a_quarter_none(shift: int, number: int) -> None:
    (_, second), _ = _run([_frame((0, 307)), _frame((shift, 305))], start_iou_tracks())
    assert torch.equal(second, _frame((shift, 300 + number)))


@pytest.mark.parametrize("threshold, number", [(0.4999, 1), (0.5, 2)])
def test_an_overlap_of_just_the_threshold_is_no_match(threshold: float, number: int) -> None:
    first, second = _frame((0, 301)), _frame((0, 301))
    second[1:3, :10] = -1
    (_, tracked), _ = _run([first, second], start_iou_tracks(), iou_threshold=threshold)
    assert tracked[4, 5] == 300 + number


def test_the_sum_of_overlaps_decides_and_not_the_best_pair() -> None:
    # Columns of the tracks: A 0..9, B 10..19. Instance 1 has 3..12: 7/13 of A, 3/17 of B. Instance
    # 2 has 0..2 of A, 3/10. The best sum is 1 with A (2 finds none: B is elsewhere).
    first, second = _frame((0, 301), (10, 302)), _frame()
    second[1:5, 3:13], second[1:5, 0:3] = 301, 302
    (_, tracked), state = _run([first, second], start_iou_tracks())
    assert tracked[2, 5] == 301 and tracked[2, 0] == 303
    assert state.labels.tolist() == [301, 302, 303] and state.ages.tolist() == [0, 1, 0]


def test_assignments_are_the_best_of_all() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        first, second = (_scatter(generator) for _ in range(2))
        before, state = track_by_overlap(first, start_iou_tracks(), label_divisor=_DIVISOR)
        tracked, _ = track_by_overlap(second, state, label_divisor=_DIVISOR, iou_threshold=0.0)
        labels, old = (torch.unique(m[m > 0]).tolist() for m in (second, before))
        found = [int(tracked[second == label][0]) for label in labels]
        total = sum(
            _iou(second == label, before == track)
            for label, track in zip(labels, found)
            if track in old
        )
        ious = [[_iou(second == label, before == track) for track in old] for label in labels]
        count = min(len(labels), len(old))
        best = max(
            sum(ious[row][column] for row, column in zip(rows, columns))
            for rows in itertools.permutations(range(len(labels)), count)
            for columns in itertools.combinations(range(len(old)), count)
        )
        assert total == pytest.approx(best, abs=1e-12)
        assert len(set(found)) == len(found)


def _scatter(generator: np.random.Generator) -> Tensor:
    """Up to five boxes that hide each other, of one class."""
    panoptic = torch.full((20, 20), -1, dtype=torch.int64)
    for number in range(1, 6):
        y, x = generator.integers(0, 14, 2)
        panoptic[y : y + 8, x : x + 8] = 300 + number
    return panoptic


def _iou(mask: Tensor, other: Tensor) -> float:
    return int((mask & other).sum()) / int((mask | other).sum())


@pytest.mark.parametrize("gap, number", [(9, 1), (10, 1), (11, 2)])
def test_a_track_waits_ten_frames(gap: int, number: int) -> None:
    frames = [_frame((0, 301)), *[_frame()] * gap, _frame((2, 301))]
    tracked, state = _run(frames, start_iou_tracks())
    assert torch.equal(tracked[-1], _frame((2, 300 + number)))
    assert state.labels.tolist() == [300 + number]


def test_masks_of_different_frames_may_overlap() -> None:
    # The first is hidden by the second, which stays where the first was seen last.
    frames = [_frame((0, 301)), _frame((7, 301)), _frame((1, 301), (11, 302))]
    tracked, _ = _run(frames, start_iou_tracks())
    assert torch.equal(tracked[1], _frame((7, 302)))
    assert torch.equal(tracked[2], _frame((1, 301), (11, 302)))


def test_another_class_is_another_track_and_numbers_count_over_all() -> None:
    (_, second), state = _run([_frame((0, 301)), _frame((0, 401))], start_iou_tracks())
    assert torch.equal(second, _frame((0, 402)))
    assert state.labels.tolist() == [301, 402]


def test_two_videos_at_once_are_as_one_after_the_other_and_states_stay_as_they_are() -> None:
    streams = [
        [_frame((2 * k, 301), (30 - 2 * k, 405)) for k in range(4)],
        [_frame((20, 307)), _frame((20, 303), (3, 304)), _frame((4, 309)), _frame((21, 301))],
    ]
    alone = [_run(frames, start_iou_tracks()) for frames in streams]
    states = [[start_iou_tracks()], [start_iou_tracks()]]
    for k in range(4):
        for stream, frames in enumerate(streams):
            (panoptic,), state = _run([frames[k]], states[stream][-1])
            states[stream].append(state)
            assert torch.equal(panoptic, alone[stream][0][k])
    # From a state in the middle the rest is the same again.
    for stream, frames in enumerate(streams):
        again, _ = _run(frames[2:], states[stream][2])
        assert all(map(torch.equal, again, alone[stream][0][2:]))


def test_a_flow_brings_back_what_has_moved_too_far_unless_it_was_hidden() -> None:
    first, second = _frame((0, 301)), _frame((20, 301))
    _, state = track_by_overlap(first, start_iou_tracks(), label_divisor=_DIVISOR)
    offsets = torch.zeros(2, *_SIZE)
    offsets[1] = 20.0
    # Of the bar 3 or 2 of 10 columns can still be seen: 3 / 10 is no match, at 0.29 it is.
    for num_hidden, threshold, number in ((0, 0.9, 1), (7, 0.29, 1), (7, 0.3, 2)):
        is_occluded = torch.zeros(_SIZE, dtype=torch.bool)
        is_occluded[:, :num_hidden] = True
        flow: Optional[Flow] = Flow(offsets, is_occluded)
        tracked, _ = track_by_overlap(
            second, state, label_divisor=_DIVISOR, iou_threshold=threshold, flow=flow
        )
        assert torch.equal(tracked, _frame((20, 300 + number)))


def test_numbers_stay_below_the_divisor() -> None:
    state = start_iou_tracks()._replace(next_number=99)
    (panoptic,), state = _run([_frame((0, 301))], state)
    assert torch.equal(panoptic, _frame((0, 399)))
    with pytest.raises(ValueError, match="fewer than label_divisor = 100 tracks.* number 100"):
        _run([_frame((20, 301))], state)


def test_nothing_at_all_and_another_size() -> None:
    nothing = torch.full((3, 4), -1)
    tracked, state = track_by_overlap(nothing, start_iou_tracks(), label_divisor=_DIVISOR)
    assert torch.equal(tracked, nothing)
    with pytest.raises(ValueError, match=r"size of the frame before, \(3, 4\), got \(8, 40\)"):
        _run([_frame()], state)
