"""Pictures of rankings, pixel by pixel."""

import numpy as np
import torch

from deeplab2_d2.visualization import draw_pair, draw_ranking_map


def test_colors_are_mixed_by_probability_where_instances_are():
    probability = torch.tensor([[[1.0, 0.25, 0.5]], [[0.0, 0.75, 0.5]]])
    covered = torch.tensor([[True, True, False]])
    colors = [[200, 0, 0], [0, 100, 40]]
    picture = draw_ranking_map(probability, covered, colors)
    # 0.25 * 200, 0.75 * 100, 0.75 * 40; nothing where no instance is.
    assert picture.tolist() == [[[200, 0, 0], [50, 75, 30], [0, 0, 0]]]


def test_a_pair_is_light_dark_and_hot_where_both_are():
    first, second = np.array([[1, 1, 1, 0, 0]], bool), np.array([[0, 1, 1, 1, 0]], bool)
    picture = draw_pair(first, second, np.array([[0.5, 1.0, 0.0, 0.5, 0.5]]))
    assert picture[0].tolist() == [[200] * 3, [255] * 3, [0] * 3, [80] * 3, [0] * 3]
