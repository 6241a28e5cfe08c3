import numpy as np
from PIL import Image

from deeplab2_d2.visualization import (
    draw_legend,
    draw_named_overlay,
    draw_panoptic_overlay,
    segment_legend,
)

NAMES = ["road", "car"]
COLORS = np.array([[60, 200, 60], [200, 60, 60]])
GRAY = np.full((120, 200, 3), 128, np.uint8)


def halves(score=0.87):
    """A road on the left, a car on the right."""
    ids = np.full((120, 200), 5)
    ids[:, 100:] = 9
    segments = [
        {"id": 5, "category_id": 0, "isthing": False},
        {"id": 9, "category_id": 1, "isthing": True, "score": score},
    ]
    return ids, segments


def written(picture, plain):
    """(left, top, right, bottom) of what was drawn over a picture, in each half."""
    changed = (picture != plain).any(axis=2)
    boxes = []
    for start in (0, 100):
        ys, xs = np.nonzero(changed[:, start : start + 100])
        boxes.append(None if not len(ys) else (xs.min(), ys.min(), xs.max(), ys.max()))
    return boxes


def test_names_stand_in_the_middle_of_their_segments_in_white_on_dark():
    plain = draw_panoptic_overlay(GRAY, halves(), COLORS)
    picture = draw_named_overlay(GRAY, halves(), COLORS, NAMES, has_legend=False)
    assert picture.shape == GRAY.shape
    for (left, top, right, bottom), middle in zip(written(picture, plain), (50, 50)):
        assert abs((left + right) / 2 - middle) <= 3 and abs((top + bottom) / 2 - 60) <= 3
        box = picture[top : bottom + 1]
        assert (box == 255).all(axis=2).any()
    # The car's tag is a darker red, with a contrast of 7 to white: 1.05 / 7 - 0.05 = 0.1.
    left, top, right, bottom = written(picture, plain)[1]
    red = picture[top + 1, 100 + (left + right) // 2].astype(float)
    assert red[0] > red[1] == red[2]
    luminance = 0.2126 * ((red[0] / 255 + 0.055) / 1.055) ** 2.4
    assert luminance < 0.1


def test_the_score_makes_a_name_longer_and_is_left_out_where_there_is_none():
    plain = draw_panoptic_overlay(GRAY, halves(), COLORS)
    options = {"has_legend": False}
    with_score = written(draw_named_overlay(GRAY, halves(), COLORS, NAMES, **options), plain)
    without = written(draw_named_overlay(GRAY, halves(None), COLORS, NAMES, **options), plain)
    assert with_score[0] == without[0]
    width, shorter = (box[1][2] - box[1][0] for box in (with_score, without))
    assert width > 1.5 * shorter


def test_segments_without_room_have_no_name_and_names_do_not_cover_each_other():
    ids, segments = halves()
    ids[:] = 5
    ids[60, 20:180] = 9  # One row of pixels: a circle of radius 1.
    plain = draw_panoptic_overlay(GRAY, (ids, segments), COLORS)
    picture = draw_named_overlay(GRAY, (ids, segments[1:]), COLORS, NAMES, has_legend=False)
    assert np.array_equal(picture, draw_panoptic_overlay(GRAY, (ids, segments[1:]), COLORS))
    # Five cars, 24 pixels from one to the next, with names of about 40: every other is left out.
    ids = np.zeros((120, 200), int)
    cars = []
    for k in range(5):
        ids[50:70, 40 + 24 * k : 60 + 24 * k] = k + 1
        cars.append({"id": k + 1, "category_id": 1, "isthing": True, "score": 0.9})
    plain = draw_panoptic_overlay(GRAY, (ids, cars), COLORS)
    picture = draw_named_overlay(GRAY, (ids, cars), COLORS, NAMES, has_legend=False)
    columns = (picture != plain).any(axis=(0, 2))
    starts = np.flatnonzero(columns[1:] & ~columns[:-1])
    assert len(starts) == 3


def test_the_legend_has_the_classes_that_there_are_things_first_with_their_number():
    _, segments = halves()
    cars = [dict(segments[1], id=k) for k in range(3)]
    strip = draw_legend(segment_legend([segments[0], *cars], COLORS, NAMES), 200, text_size=10)
    assert strip.shape[1] == 200 and strip.shape[0] < 30
    swatches = {
        name: np.nonzero((strip == color).all(axis=2))[1].min()
        for name, color in zip(NAMES, COLORS)
    }
    assert swatches["car"] < swatches["road"]
    one = draw_legend(segment_legend([segments[0], cars[0]], COLORS, NAMES), 200, text_size=10)
    # "car (3)" is longer than "car".
    assert np.nonzero((one == COLORS[0]).all(axis=2))[1].min() < swatches["road"]
    narrow = draw_legend(segment_legend([segments[0], *cars], COLORS, NAMES), 70, text_size=10)
    assert narrow.shape[0] > strip.shape[0]  # A line for each.


def test_a_picture_without_a_segment_and_one_of_a_pixel_are_left_as_they_are():
    nothing = (np.zeros((120, 200), int), [])
    assert np.array_equal(draw_named_overlay(GRAY, nothing, COLORS, NAMES), GRAY)
    pixel = (np.full((1, 1), 5), halves()[1][:1])
    assert draw_named_overlay(GRAY[:1, :1], pixel, COLORS, NAMES, has_legend=False).shape == (
        1,
        1,
        3,
    )
    Image.fromarray(draw_named_overlay(GRAY[:1, :1], pixel, COLORS, NAMES))


def test_a_class_without_a_name_is_called_by_its_number():
    ids, segments = halves()
    picture = draw_named_overlay(GRAY, (ids, segments), COLORS, [], has_legend=False)
    named = draw_named_overlay(
        GRAY, (ids, segments), COLORS, ["class 0", "class 1"], has_legend=False
    )
    assert np.array_equal(picture, named)
