"""Legends, and pixels that are marked."""

import numpy as np
import pytest

from deeplab2_d2.visualization import class_legend, draw_legend, hatch, sheet
from deeplab2_d2.visualization.legends import TEXT_SIZE
from deeplab2_d2.visualization.sheets import GAP, ROW_TITLE_WIDTH, TITLE_HEIGHT

# Swatches are as high as letters, with half of that between lines and around them.
PAD = TEXT_SIZE // 2
LINE_HEIGHT = TEXT_SIZE + PAD


def has_color(picture: np.ndarray, color: object) -> np.ndarray:
    mask: np.ndarray = (picture == np.array(color, np.uint8)).all(axis=-1)
    return mask


def test_a_legend_names_the_classes_that_are_shown_in_their_order() -> None:
    colors = [[10, 0, 0], [20, 0, 0], [30, 0, 0]]
    # 255 and -1 are no classes.
    entries = class_legend(["sky", "road", "car"], np.array(colors), [2, 0, 255, 2, -1])
    assert entries == [("sky", [10, 0, 0]), ("car", [30, 0, 0])]


def test_every_entry_has_its_color_with_its_name_at_its_right() -> None:
    legend = draw_legend([("sky", (10, 0, 0)), ("road", (20, 0, 0))], 400)
    assert legend.shape == (LINE_HEIGHT + PAD, 400, 3)
    lefts = [np.flatnonzero(has_color(legend, (c, 0, 0)).any(axis=0)) for c in (10, 20)]
    # A rim of a pixel around each swatch.
    assert [len(columns) for columns in lefts] == [TEXT_SIZE - 2] * 2
    text = np.flatnonzero((legend < 100).all(axis=-1).any(axis=0))
    end, start = lefts[0][-1], lefts[1][0]
    assert ((text > end + 1) & (text < start - 1)).any() and (text > lefts[1][-1] + 1).any()
    # The text tells classes apart: other words, other pixels.
    other = draw_legend([("sea", (10, 0, 0)), ("road", (20, 0, 0))], 400)
    assert not np.array_equal(legend, other)


def test_a_legend_goes_on_in_a_new_line_where_the_width_ends() -> None:
    entries = [(f"class {k}", (k + 1, 0, 0)) for k in range(12)]
    legend = draw_legend(entries, 200)
    assert legend.shape[1] == 200 and legend.shape[0] >= 3 * LINE_HEIGHT
    rows = [np.flatnonzero(has_color(legend, (k + 1, 0, 0)).any(axis=1))[0] for k in range(12)]
    assert rows == sorted(rows) and rows[0] < rows[-1]
    # Also one that is longer than a line, and letters that the font may lack.
    long = draw_legend([("x" * 99, (1, 0, 0)), ("道路", (2, 0, 0))], 60)
    assert long.shape == (2 * LINE_HEIGHT + PAD, 60, 3)


def test_hatching_is_seen_on_black_and_on_white_and_nowhere_else() -> None:
    for ground in (0, 255):
        picture = np.full((16, 16, 3), ground, np.uint8)
        mask = np.zeros((16, 16), bool)
        mask[:, 8:] = True
        marked = hatch(picture, mask)
        changed = (marked != picture).any(axis=-1)
        # A quarter of the masked pixels has the line that differs from the ground.
        assert changed[:, 8:].mean() == 0.25 and not changed[:, :8].any()
        assert (picture == ground).all()


def test_what_is_hatched_is_hatched_in_the_legend() -> None:
    legend = draw_legend([("unlabeled", None)], 100)
    inner = legend[PAD + 1 : LINE_HEIGHT - 1, PAD + 1 : LINE_HEIGHT - 1]
    shares = [has_color(inner, (level,) * 3).mean() for level in (0, 160, 255)]
    assert sum(shares) == pytest.approx(1.0) and min(shares) > 0.2


def test_a_sheet_has_titles_beside_its_rows_and_the_legend_below() -> None:
    white = np.full((60, 90, 3), 255, np.uint8)
    plain = sheet([[white], [white]], titles=["image"])
    result = sheet(
        [[white], [white]],
        titles=["image"],
        row_titles=["truth", ""],
        legend=[("sky", (10, 0, 0))],
    )
    height, width = plain.shape[:2]
    assert result.shape == (height + LINE_HEIGHT + PAD, width + ROW_TITLE_WIDTH, 3)
    # But for the margin and the legend it is the sheet without them.
    assert np.array_equal(result[:height, ROW_TITLE_WIDTH:], plain)
    rows = np.flatnonzero((result[:height, :ROW_TITLE_WIDTH] < 128).any(axis=(1, 2)))
    # "truth" is longer than high when it is read: written upwards, and from the row's lower end.
    first, last = TITLE_HEIGHT + GAP, TITLE_HEIGHT + GAP + 59
    assert first <= rows.min() and last - 4 <= rows.max() <= last and np.ptp(rows) > 15
    assert has_color(result[height:], (10, 0, 0)).any()


def test_a_title_for_each_row_is_needed() -> None:
    with pytest.raises(ValueError, match="row_titles must be one for each of 1 rows, got 2"):
        sheet([[np.zeros((4, 4, 3), np.uint8)]], row_titles=["truth", "prediction"])
