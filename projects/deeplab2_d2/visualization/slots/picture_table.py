"""Tables of pictures with titles and captions, as figures that can stand alone."""

from typing import Any, NamedTuple, Sequence

import numpy as np

from ...structures import atomic_path

DOTS_PER_INCH = 150
# In inches: between pictures, and the height of a line of text.
_GAP, _LINE = 0.08, 0.14
_TITLE_SIZE, _CAPTION_SIZE = 8, 7


class LabeledPicture(NamedTuple):
    """
    Attributes:
        picture: (H, W, 3) uint8.
        caption: lines of text below it; "" for none.
    """

    picture: np.ndarray
    caption: str = ""


def draw_picture_table(
    rows: Sequence[Sequence[LabeledPicture]],
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    cell_width: float = 1.5,
) -> Any:
    """
    Pictures side by side, with titles and captions that have room of their own.

    Args:
        rows: rows may differ in length.
        column_titles, row_titles: one line or more for each, or none at all.
        cell_width: inches that every picture is brought to; its height follows from its shape.

    Returns:
        A matplotlib ``Figure``; see :func:`save_figure`.

    Raises:
        ValueError: if there is no picture.
    """
    from matplotlib.figure import Figure

    num_columns = max((len(row) for row in rows), default=0)
    if num_columns == 0:
        raise ValueError("rows must hold at least one picture, got none")
    size = num_columns * (cell_width + _GAP), sum(_row_height(row, cell_width) for row in rows)
    figure = Figure(figsize=size)
    for column, title in enumerate(column_titles):
        center = column * (cell_width + _GAP) + cell_width / 2
        _write(figure, title, (center, -_GAP), ha="center", va="bottom", size=_TITLE_SIZE)
    top = 0.0
    for index, row in enumerate(rows):
        if row_titles:
            middle = top + max(_picture_height(cell, cell_width) for cell in row) / 2
            title = row_titles[index]
            _write(figure, title, (-_GAP, middle), ha="right", va="center", size=_TITLE_SIZE)
        for column, cell in enumerate(row):
            _place(figure, cell, (column * (cell_width + _GAP), top), cell_width)
        top += _row_height(row, cell_width)
    return figure


def save_figure(figure: Any, path: str) -> None:
    """Write a figure as PNG, on white, as large as its labels need."""
    layout = {"dpi": DOTS_PER_INCH, "bbox_inches": "tight", "pad_inches": 0.1}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="w", **layout)


def shorten(text: str, length: int) -> str:
    """The text, or its beginning with an ellipsis, of at most ``length`` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _picture_height(cell: LabeledPicture, cell_width: float) -> float:
    return cell_width * cell.picture.shape[0] / cell.picture.shape[1]


def _row_height(row: Sequence[LabeledPicture], cell_width: float) -> float:
    num_lines = max(len(cell.caption.splitlines()) for cell in row)
    tallest = max(_picture_height(cell, cell_width) for cell in row)
    return tallest + _LINE * num_lines + 2 * _GAP


def _place(figure: Any, cell: LabeledPicture, corner: Sequence[float], cell_width: float) -> None:
    """Put a picture with its caption at its upper left corner, (x, y) inches from the top."""
    (left, top), (width, height) = corner, figure.get_size_inches()
    bottom = top + _picture_height(cell, cell_width)
    axes = figure.add_axes(
        (left / width, 1 - bottom / height, cell_width / width, (bottom - top) / height)
    )
    axes.imshow(cell.picture, aspect="auto")
    axes.set_axis_off()
    below = (left + cell_width / 2, bottom + _GAP / 2)
    _write(figure, cell.caption, below, ha="center", va="top", size=_CAPTION_SIZE)


def _write(figure: Any, text: str, position: Sequence[float], **options: Any) -> None:
    width, height = figure.get_size_inches()
    # Names of classes and files may hold a dollar sign, which is no formula.
    figure.text(position[0] / width, 1 - position[1] / height, text, parse_math=False, **options)
