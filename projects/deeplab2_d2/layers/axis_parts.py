"""One axis of a tensor as several."""

from typing import Sequence

from torch import Tensor


def split_axis(values: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """
    What ``values.unflatten(axis, sizes)`` gives.

    The sizes of the result of ``unflatten`` are constants to ``torch.onnx.export``: those of its
    example.

    Args:
        values: of any shape.
        axis: which, at least 0.
        sizes: of the axes in its place; one may be -1.
    """
    shape = values.shape
    return values.reshape(*shape[:axis], *sizes, *shape[axis + 1 :])
