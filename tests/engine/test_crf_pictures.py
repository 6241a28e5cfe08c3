"""Coarse scores of an annotation, how they are judged, and the command that draws them."""

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab2_d2.engine.crf_pictures import (
    VOID,
    coarse_scores,
    main,
    parse_arguments,
    score_labels,
)


def test_scores_are_shares_of_cells_enlarged():
    # Two cells of two pixels: the first half of class 1, the second void.
    labels = torch.tensor([[0, 1, VOID, VOID], [0, 1, VOID, VOID]])
    scores = coarse_scores(labels, 2, stride=2, contrast=6.0, noise=0.0)
    # 3 at the left corner, 0 at the right one, a line between them.
    expected = torch.tensor([3.0, 2.0, 1.0, 0.0]).expand(2, 2, 4)
    torch.testing.assert_close(scores, expected)


def test_void_pixels_do_not_count():
    truth = torch.tensor([0, 0, 0, 1, VOID])
    labels = torch.tensor([0, 0, 1, 1, 2])
    # Three of four are right; 2 of 3 and 1 of 2, and class 2 is not in the truth.
    accuracy, mean_iou = score_labels(labels, truth, num_classes=3)
    assert accuracy == 0.75 and mean_iou == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.fixture
def files(tmp_path):
    ids = np.zeros((24, 40), np.uint8)
    ids[:, 4:21], ids[:, 21:] = 7, 9  # and void at the left
    segments = np.dstack([ids, ids * 0, ids * 0])
    Image.fromarray(segments).save(tmp_path / "segments.png")
    Image.fromarray(20 * segments).save(tmp_path / "image.png")
    return [f"--image={tmp_path}/image.png", f"--segments={tmp_path}/segments.png"]


def test_command_prints_what_the_crf_mends_and_draws_it(files, tmp_path, capsys):
    main(parse_arguments([*files, "--theta-alpha", "20", f"--out={tmp_path}/out.png"]))
    *_, mean, _ = capsys.readouterr().out.splitlines()
    before, _, after, iou = map(float, mean.split()[-4:])
    assert before < 100 and after == iou == 100
    # Three pictures beside each other, below their titles.
    assert Image.open(tmp_path / "out.png").size[0] > 3 * 40


@pytest.mark.parametrize("change, message", [((24, 40), "void alone"), ((24, 39), "image's size")])
def test_segments_that_do_not_fit_are_named(files, tmp_path, change, message):
    Image.new("RGB", change[::-1]).save(tmp_path / "segments.png")
    with pytest.raises(ValueError, match=f"segments.png must .*{message}"):
        main(parse_arguments(files))


def test_each_image_must_have_segments(files, capsys):
    with pytest.raises(SystemExit):
        parse_arguments([*files, "--image", "a.png", "b.png"])
    assert "2 images must have as many --segments" in capsys.readouterr().err
