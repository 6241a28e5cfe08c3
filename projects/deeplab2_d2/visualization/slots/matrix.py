"""The joint distribution of slots and classes as a labelled matrix."""

from typing import Any, Dict, Sequence

import numpy as np

# Up to so many classes, cells are large enough for their numbers.
_MOST_CLASSES_WITH_NUMBERS = 40
# Sides of cells with and without numbers, in inches.
_LARGE_CELL, _SMALL_CELL = 0.34, 0.15
_NEVER_COLOR = "#eeeeee"


def draw_joint_distribution(
    firings: np.ndarray,
    slots: Sequence[int],
    class_names: Sequence[str],
    thing_ids: Sequence[int],
) -> Any:
    """
    A matrix with a row for each slot and a column for each class, things at the left.

    Reference: MaX-DeepLab (arXiv:2012.00759), Fig. A.3. The colors are logarithmic, so that rare
    pairs are seen beside frequent ones; a pair that was never predicted is pale gray.

    Args:
        firings: (S, C) integer, how often each slot predicted each class.
        slots: the rows to draw, from the top.
        class_names: C names, by contiguous id.
        thing_ids: the classes that come first; the others follow by their ids.

    Returns:
        A matplotlib ``Figure``; see :func:`save_figure`.

    Raises:
        ValueError: if there is no slot, or the names are not as many as the classes.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    if len(slots) == 0:
        raise ValueError("slots must name at least one slot to draw, got none")
    if len(class_names) != firings.shape[1]:
        raise ValueError(
            f"class_names must be {firings.shape[1]}, as the classes, got {len(class_names)}"
        )
    order = [*thing_ids, *(c for c in range(len(class_names)) if c not in set(thing_ids))]
    matrix = firings[np.asarray(slots)][:, order]
    has_numbers = len(order) <= _MOST_CLASSES_WITH_NUMBERS
    cell = _LARGE_CELL if has_numbers else _SMALL_CELL
    figure = Figure(figsize=(cell * len(order), cell * len(slots)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_facecolor(_NEVER_COLOR)
    image = axes.imshow(
        np.ma.masked_equal(matrix, 0),
        cmap="viridis_r",
        norm=LogNorm(1, max(int(matrix.max()), 2)),
        aspect="auto",
    )
    # Names of classes may hold a dollar sign, which is no formula.
    style: Dict[str, Any] = {"fontsize": 8 if has_numbers else 6, "parse_math": False}
    axes.set_xticks(range(len(order)), [class_names[c] for c in order], rotation=90, **style)
    axes.set_yticks(range(len(slots)), [f"slot {slot}" for slot in slots], **style)
    _draw_cell_borders(axes, matrix.shape)
    if has_numbers:
        _write_numbers(axes, image, matrix)
    _name_halves(axes, len(thing_ids), len(order))
    _add_scale(figure, image, width=cell * len(order), maximum=int(matrix.max()))
    return figure


def _draw_cell_borders(axes: Any, shape: Sequence[int]) -> None:
    axes.set_xticks(np.arange(0.5, shape[1] - 1), minor=True)
    axes.set_yticks(np.arange(0.5, shape[0] - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.5)
    axes.tick_params(which="both", length=0, top=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)


def _write_numbers(axes: Any, image: Any, matrix: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            # Dark cells, by their luminance, have white numbers.
            red, green, blue, _ = image.cmap(image.norm(count))
            is_dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
            color = "white" if is_dark else "black"
            axes.text(column, row, str(count), ha="center", va="center", size=7, color=color)


def _name_halves(axes: Any, num_things: int, num_classes: int) -> None:
    """Names below the columns of things and of stuff, and a line between them."""
    if 0 < num_things < num_classes:
        axes.axvline(num_things - 0.5, color="black", linewidth=1.5)
    bottom = axes.get_xaxis_transform()
    for name, first, end in (("things", 0, num_things), ("stuff", num_things, num_classes)):
        if end > first:
            middle = (first + end - 1) / 2
            axes.annotate(
                name, (middle, 0), (0, -6), bottom, "offset points", ha="center", va="top", size=9
            )


def _add_scale(figure: Any, image: Any, *, width: float, maximum: int) -> None:
    """What the colors say, right of the matrix, with whole numbers at its marks."""
    height = figure.get_size_inches()[1]
    length = min(height, 2.0)
    axes = figure.add_axes((1 + 0.2 / width, 1 - length / height, 0.12 / width, length / height))
    bar = figure.colorbar(image, cax=axes)
    steps = [step * 10**power for power in range(8) for step in (1, 2, 5)]
    marks = [mark for mark in steps if mark <= maximum]
    bar.set_ticks(marks, labels=[str(mark) for mark in marks])
    bar.ax.minorticks_off()
    bar.set_label("images in which the slot predicts the class", size=8)
    bar.ax.tick_params(labelsize=8)
