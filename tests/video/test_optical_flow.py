"""Optical flow of textures that were moved by hand."""

import numpy as np
import pytest
import torch

from deeplab2_d2.video import Flow, estimate_flow, warp_back

cv2 = pytest.importorskip("cv2")


def _texture(size, seed):
    """Noise that is smooth enough to be followed over ten pixels."""
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def test_the_flow_of_a_shifted_texture_is_its_shift():
    canvas = _texture((120, 160), 0)
    # What was at (y, x) is at (y + 3, x - 5).
    first, second = canvas[10:100, 20:140], canvas[7:97, 25:145]
    flow = estimate_flow(first, second)
    inner = (slice(15, -15), slice(15, -15))
    for found, expected in zip(flow.offsets, (3.0, -5.0)):
        np.testing.assert_allclose(found[inner], expected, atol=0.25)
    assert not flow.is_occluded[inner].any()
    # The five columns at the left leave the frame, and the three rows at the bottom.
    assert flow.is_occluded[:, :4].all() and flow.is_occluded[-2:].all()


def test_what_a_moving_square_hides_is_occluded_and_its_label_is_found_where_it_was():
    background, square = _texture((90, 120), 1), _texture((30, 30), 2)
    frames, labels = [], []
    for x in (30, 40):
        frames.append(background.copy())
        frames[-1][30:60, x : x + 30] = square
        labels.append(torch.zeros(90, 120, dtype=torch.int32))
        labels[-1][30:60, x : x + 30] = 7
    flow = estimate_flow(*frames)
    # The columns 60..69 of the background are behind the square in the second frame.
    assert flow.is_occluded[36:54, 62:68].float().mean() > 0.8
    assert flow.is_occluded.float().mean() < 0.1
    warped = warp_back(labels[1], flow, outside=-1)
    common = ((warped == 7) & (labels[0] == 7)).sum()
    union = ((warped == 7) | (labels[0] == 7)).sum()
    # Half of it, had nothing been moved: 20 of 40 columns.
    assert common / union > 0.85


def test_labels_are_looked_up_at_the_nearest_pixel():
    labels = torch.tensor([[1, 2, 3, 4]])
    offsets = torch.tensor([[[0.0, 0.0, 0.0, 0.0]], [[1.0, 0.6, 0.4, 1.0]]])
    is_occluded = torch.tensor([[True, False, False, False]])
    # 0 -> 1 but hidden, 1 -> 1.6, 2 -> 2.4, 3 -> 4 outside.
    assert warp_back(labels, Flow(offsets, is_occluded), outside=-1).tolist() == [[-1, 3, 3, -1]]


def test_a_flow_grows_with_its_maps():
    offsets = torch.tensor([1.0, -2.0])[:, None, None].expand(2, 3, 5)
    flow = Flow(offsets, torch.zeros(3, 5, dtype=torch.bool)).resize((5, 17))
    # From 2 steps to 4, and from 4 to 16.
    assert flow.offsets.shape == (2, 5, 17)
    assert flow.offsets[:, 2, 7].tolist() == [2.0, -8.0] and not flow.is_occluded.any()


def test_a_flow_of_a_single_row_keeps_its_y():
    flow = Flow(torch.full((2, 1, 3), 2.0), torch.zeros(1, 3, dtype=torch.bool)).resize((3, 5))
    assert flow.offsets[0].unique().tolist() == [2.0] and flow.offsets[1].unique().tolist() == [4.0]


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"frames must be of one size, got \(4, 4\) and \(4, 5\)"):
        estimate_flow(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))
    flow = Flow(torch.zeros(2, 4, 4), torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"flow must be \(2, 4, 5\), got \(2, 4, 4\)"):
        warp_back(torch.zeros(4, 5), flow, outside=-1)
