import json

import pytest
from PIL import Image

from deeplab2_d2.visualization.curves import draw_curves, read_curve


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_of_an_iteration_that_ran_twice_the_later_value_counts(tmp_path):
    rows = [
        {"iteration": 0, "total_loss": 3.0},
        {"iteration": 1, "total_loss": 2.0},
        {"iteration": 1, "panoptic_seg/PQ": 50.0},
        {"iteration": 1, "total_loss": 2.5},
    ]
    path = write(tmp_path / "metrics.json", rows)
    assert read_curve(path, "total_loss") == {0: 3.0, 1: 2.5}
    with pytest.raises(ValueError, match="metrics.json has no 'lr'"):
        read_curve(path, "lr")


def test_the_picture_shows_every_run(tmp_path):
    runs = [
        write(tmp_path / f"{k}.json", [{"iteration": i, "lr": i * k} for i in range(3)])
        for k in (1, 2)
    ]
    pictures = []
    for count in (1, 2):
        draw_curves(runs[:count], str(tmp_path / "out.png"), keys=["lr"])
        pictures.append(Image.open(tmp_path / "out.png").tobytes())
    assert pictures[0] != pictures[1]


def test_every_scalar_has_a_panel(tmp_path):
    rows = [{"iteration": i, "lr": i, "total_loss": -i} for i in range(3)]
    run = write(tmp_path / "metrics.json", rows)
    heights = []
    for keys in (["lr"], ["lr", "total_loss"]):
        draw_curves([run], str(tmp_path / "out.png"), keys=keys)
        heights.append(Image.open(tmp_path / "out.png").height)
    assert heights == [400, 700]
    with pytest.raises(ValueError, match="keys must name at least one"):
        draw_curves([run], str(tmp_path / "out.png"), keys=[])
