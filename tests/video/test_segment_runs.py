"""What segments measure, worked by hand and beside NumPy."""

import numpy as np
import pytest
import torch

from deeplab2_d2.video import find_runs, find_segments
from deeplab2_d2.video.segment_runs import _find_starts, _find_starts_on_gpu


def test_runs_end_where_a_row_ends_or_a_map_changes() -> None:
    first = torch.tensor([[5, 5, 5], [5, 7, 7]])
    second = torch.tensor([[0, 0, 1], [1, 1, 1]])
    runs = find_runs(first, second)
    assert runs.labels.tolist() == [[5, 0], [5, 1], [5, 1], [7, 1]]
    assert runs.starts.tolist() == [0, 2, 3, 4]
    assert runs.lengths.tolist() == [2, 1, 1, 2]
    assert torch.equal(runs.fill(runs.labels[:, 0]), first)


def test_a_gpu_finds_the_runs_that_numpy_finds() -> None:
    maps = [torch.randint(0, 2, (7 * 11,), generator=torch.manual_seed(k)) for k in range(2)]
    for some in (maps[:1], maps):
        starts = _find_starts([labels.numpy() for labels in some], width=11)
        assert _find_starts_on_gpu(some, width=11).tolist() == starts.tolist()


def test_maps_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"maps must be \(H, W\) of one size, got"):
        find_runs(torch.zeros(2, 3), torch.zeros(3, 2))


def test_segments_measure_what_numpy_says() -> None:
    generator = np.random.default_rng(0)
    blocks = generator.integers(-1, 12, (9, 13))
    labels = np.kron(blocks, np.ones((3, 4), int))
    labels[generator.random(labels.shape) < 0.05] = 3
    found = find_segments(find_runs(torch.from_numpy(labels)))
    firsts = {int(label): np.flatnonzero(labels == label)[0] for label in np.unique(labels)}
    assert found.labels.tolist() == sorted(firsts, key=lambda label: firsts[label])
    for row, label in enumerate(found.labels.tolist()):
        y, x = np.nonzero(labels == label)
        assert found.areas[row] == len(y)
        assert found.centers[row].tolist() == [round(y.mean()), round(x.mean())]
        assert found.boxes[row].tolist() == [y.min(), x.min(), y.max(), x.max()]
