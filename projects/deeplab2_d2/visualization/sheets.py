"""Sheets: pictures side by side, with titles and a legend."""

from typing import List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .legends import BACKGROUND, Entry, draw_legend
from .pictures import Array, draw_image

GAP = 4
TITLE_HEIGHT = 20
# Left of the rows, where they have titles, which are turned to be read from below.
ROW_TITLE_WIDTH = 16


def sheet(
    rows: Sequence[Sequence[Array]],
    *,
    titles: Optional[Sequence[str]] = None,
    row_titles: Optional[Sequence[str]] = None,
    legend: Sequence[Entry] = (),
    cell_size: Optional[Tuple[int, int]] = None,
) -> np.ndarray:
    """
    Put pictures into a table.

    Args:
        rows: pictures, (H, W, 3) or (3, H, W), RGB 0..255; rows may differ in length.
        titles: of the columns, from the left.
        row_titles: of the rows, from above; written upwards, at their left.
        legend: what colors mean, below the last row; see :func:`draw_legend`.
        cell_size: (height, width) that each picture is brought to, as large as its shape allows;
            None keeps their sizes.

    Returns:
        (H, W, 3) uint8 RGB. Pictures stand in the upper left of their cells.

    Raises:
        ValueError: if there is no picture, or not a title for each row.
    """
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(
            f"sheet: row_titles must be one for each of {len(rows)} rows, got {len(row_titles)}"
        )
    cells = [[_fit(draw_image(picture), cell_size) for picture in row] for row in rows]
    num_columns = max((len(row) for row in cells), default=0)
    if num_columns == 0:
        raise ValueError("sheet: rows must hold at least one picture, got none")
    widths = [
        max((row[i].shape[1] for row in cells if i < len(row)), default=0)
        for i in range(num_columns)
    ]
    heights = [max((cell.shape[0] for cell in row), default=0) for row in cells]
    top, left = TITLE_HEIGHT if titles else 0, ROW_TITLE_WIDTH if row_titles else 0
    size = (
        top + sum(heights) + GAP * (len(heights) + 1),
        left + sum(widths) + GAP * (num_columns + 1),
    )
    result = np.empty((*size, 3), np.uint8)
    result[:] = BACKGROUND
    lefts, tops = _starts(widths, left), _starts(heights, top)
    for y, row in zip(tops, cells):
        for x, cell in zip(lefts, row):
            result[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    for title, x in zip(titles or (), lefts):
        result = draw_text(result, title, (GAP, x))
    for title, y, height in zip(row_titles or (), tops, heights):
        strip = np.full((ROW_TITLE_WIDTH, height, 3), BACKGROUND, np.uint8)
        # As the title is read: its end is at the top.
        result[y : y + height, :ROW_TITLE_WIDTH] = np.rot90(draw_text(strip, title, (1, 1)))
    return np.vstack([result, draw_legend(legend, result.shape[1])]) if legend else result


def draw_text(picture: np.ndarray, text: str, position: Tuple[int, int]) -> np.ndarray:
    """
    Write black text with a white rim, readable on any ground.

    Args:
        picture: (H, W, 3) uint8, left as it is.
        text: one line.
        position: (y, x) of its upper left corner.

    Returns:
        (H, W, 3) uint8.
    """
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(
        (position[1], position[0]),
        text,
        fill=(0, 0, 0),
        font=ImageFont.load_default(),
        stroke_width=2,
        stroke_fill=(255, 255, 255),
    )
    return np.asarray(image).copy()


def _fit(picture: np.ndarray, cell_size: Optional[Tuple[int, int]]) -> np.ndarray:
    if cell_size is None:
        return picture
    scale = min(cell_size[0] / picture.shape[0], cell_size[1] / picture.shape[1])
    height = max(1, round(picture.shape[0] * scale))
    width = max(1, round(picture.shape[1] * scale))
    # Labels must not be mixed when they are enlarged; when reduced, averages are easier to read.
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize((width, height), how))


def _starts(lengths: Sequence[int], first: int) -> List[int]:
    starts, position = [], first + GAP
    for length in lengths:
        starts.append(position)
        position += length + GAP
    return starts
