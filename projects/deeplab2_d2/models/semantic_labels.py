"""Models asked for labels where scores are not needed."""

import contextlib
import contextvars
from typing import TYPE_CHECKING, Iterator

from ..structures import SEMANTIC_LABELS

if TYPE_CHECKING:
    from .parts import Inference

_ARE_ENOUGH: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "deeplab2_d2_labels_are_enough", default=False
)


@contextlib.contextmanager
def labels_are_enough() -> Iterator[None]:
    """
    Within the block, models return ``sem_seg_labels`` in place of ``sem_seg``.

    The scores of all classes at the size of an image are the largest part of its post-processing,
    in time and memory; what they are asked for is most often which is the largest. It holds for the
    thread that entered it alone. Models with a CRF, which needs the scores, and those whose
    inference knows no labels (``makes_labels``) return what they return without.
    """
    token = _ARE_ENOUGH.set(True)
    try:
        yield
    finally:
        _ARE_ENOUGH.reset(token)


def are_labels_enough() -> bool:
    """Whether the caller is within :func:`labels_are_enough`."""
    return _ARE_ENOUGH.get()


def with_labels(inference: "Inference") -> "Inference":
    """The same making ``sem_seg_labels`` in place of ``sem_seg``; itself where it cannot."""
    if "sem_seg" not in inference.outputs or not getattr(inference, "makes_labels", False):
        return inference
    others = (name for name in inference.outputs if name not in ("sem_seg", SEMANTIC_LABELS))
    return inference.with_outputs(SEMANTIC_LABELS, *others)
