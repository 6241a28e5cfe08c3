import numpy as np
import pytest

from deeplab2_d2.visualization import sheet
from deeplab2_d2.visualization.sheets import GAP, TITLE_HEIGHT


def _picture(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_pictures_stand_in_rows_and_columns_that_fit_the_largest():
    result = sheet([[_picture(2, 3, 10), _picture(1, 1, 20)], [_picture(1, 5, 30)]])
    assert result.shape == (3 * GAP + 2 + 1, 3 * GAP + 5 + 1, 3)
    assert (result[GAP : GAP + 2, GAP : GAP + 3] == 10).all()
    assert (result[GAP, 2 * GAP + 5] == 20).all()
    assert (result[2 * GAP + 2, GAP : GAP + 5] == 30).all()
    # Nothing else is drawn.
    assert (result != 255).any(-1).sum() == 6 + 1 + 5


def test_titles_stand_above_their_columns():
    result = sheet([[_picture(5, 60, 255), _picture(5, 60, 255)]], titles=["a", "b"])
    dark = np.flatnonzero((result < 128).all(-1).any(0))
    assert result.shape[0] == TITLE_HEIGHT + 5 + 2 * GAP
    assert (dark < 60).any() and (dark > 60 + GAP).any()
    assert not (result[TITLE_HEIGHT:] < 128).any()


def test_cells_are_enlarged_without_mixing_labels():
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0] = 200
    result = sheet([[picture]], cell_size=(8, 100))
    assert result.shape == (8 + 2 * GAP, 8 + 2 * GAP, 3)
    assert set(np.unique(result[GAP:-GAP, GAP:-GAP])) == {0, 200}


def test_sheet_without_pictures_is_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        sheet([[], []])
