import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from deeplab2_d2.visualization.slots import (
    LabeledPicture,
    draw_joint_distribution,
    draw_picture_table,
    save_figure,
)
from deeplab2_d2.visualization.slots.picture_table import DOTS_PER_INCH, shorten

# Slots in rows; the classes are a thing, stuff, a thing.
FIRINGS = np.array([[0, 0, 0], [4, 0, 30], [0, 7, 0]])
NAMES = ["cat", "sky", "dog"]


def labels(ticks):
    return [label.get_text() for label in ticks]


def test_the_matrix_has_things_left_and_the_given_slots_from_the_top():
    axes = draw_joint_distribution(FIRINGS, [1, 2], NAMES, thing_ids=[0, 2]).axes[0]
    (image,) = axes.images
    matrix = image.get_array()
    assert matrix.filled(-1).tolist() == [[4, 30, -1], [-1, -1, 7]]
    assert labels(axes.get_xticklabels()) == ["cat", "dog", "sky"]
    assert labels(axes.get_yticklabels()) == ["slot 1", "slot 2"]
    numbers = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert {(0, 0): "4", (1, 0): "30", (2, 1): "7"}.items() <= numbers.items()
    # One column of stuff, so things are named between the first two columns.
    assert [text.get_text() for text in axes.texts[-2:]] == ["things", "stuff"]
    assert [text.xy[0] for text in axes.texts[-2:]] == [0.5, 2.0]


def test_the_matrix_has_a_logarithmic_scale_with_whole_numbers():
    figure = draw_joint_distribution(FIRINGS, [1, 2], NAMES, thing_ids=[0, 2])
    image = figure.axes[0].images[0]
    assert image.norm(1) == 0.0 and image.norm(30) == pytest.approx(1.0)
    assert image.norm(30**0.5) == pytest.approx(0.5)
    assert labels(figure.axes[1].get_yticklabels()) == ["1", "2", "5", "10", "20"]


def test_a_matrix_of_ones_can_be_drawn(tmp_path):
    figure = draw_joint_distribution(np.array([[1]]), [0], ["only"], thing_ids=[])
    save_figure(figure, str(tmp_path / "one.png"))
    assert labels(figure.axes[1].get_yticklabels()) == ["1"]


def test_what_cannot_be_drawn_as_a_matrix_is_refused():
    with pytest.raises(ValueError, match="slots must name at least one"):
        draw_joint_distribution(FIRINGS, [], NAMES, thing_ids=[])
    with pytest.raises(ValueError, match="class_names must be 3, .* got 2"):
        draw_joint_distribution(FIRINGS, [1], NAMES[:2], thing_ids=[])


def text_boxes(figure):
    """Boxes of all visible texts outside of the axes, in pixels, by text."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    return {text.get_text(): text.get_window_extent(renderer) for text in figure.texts}


def test_captions_and_titles_stand_clear_of_pictures_and_of_each_other():
    wide, tall = np.zeros((10, 40, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)
    rows = [
        [LabeledPicture(wide, "under 1"), LabeledPicture(tall, "under 2\ntwo lines")],
        [LabeledPicture(wide, "under 3")],
    ]
    figure = draw_picture_table(rows, column_titles=["a", "b\nlow"], row_titles=["left", "x"])
    boxes = [box for text, box in text_boxes(figure).items() if text]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    assert len(boxes) == 4 + 3 + 3
    overlaps = [
        (a, b)
        for index, a in enumerate(boxes)
        for b in boxes[:index]
        if min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0)
    ]
    assert overlaps == []


def test_a_picture_keeps_its_shape_and_its_colors(tmp_path):
    picture = np.zeros((30, 60, 3), np.uint8)
    picture[:, 30:] = (10, 200, 30)
    figure = draw_picture_table([[LabeledPicture(picture)]], cell_width=2.0)
    (axes,) = figure.axes
    box = axes.get_window_extent()
    assert box.width == pytest.approx(2 * box.height)
    save_figure(figure, str(tmp_path / "table.png"))
    pixels = np.asarray(Image.open(tmp_path / "table.png").convert("RGB"))
    green = (pixels == (10, 200, 30)).all(-1)
    # Half of 2 inches by 1 inch, but for the pixels at its borders.
    assert green.sum() == pytest.approx(DOTS_PER_INCH**2, rel=0.03)


def test_names_with_a_dollar_sign_are_no_formulas(tmp_path):
    picture = np.zeros((3, 3, 3), np.uint8)
    figure = draw_picture_table([[LabeledPicture(picture, "$\\bad$")]], column_titles=["$a^$"])
    save_figure(figure, str(tmp_path / "table.png"))
    figure = draw_joint_distribution(np.array([[1]]), [0], ["$\\bad$"], thing_ids=[])
    save_figure(figure, str(tmp_path / "matrix.png"))


def test_a_table_needs_a_picture():
    with pytest.raises(ValueError, match="rows must hold at least one picture"):
        draw_picture_table([[], []])


def test_long_texts_are_shortened():
    assert shorten("traffic light", 13) == "traffic light"
    assert shorten("traffic light", 9) == "traffic…"
