"""Images with their instances by class name: what every source of a conversion is read into."""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

from .omissions import Omissions, leave_out

Instance = Tuple[str, Any, bool]


@dataclass(frozen=True)
class AnnotatedImage:
    """
    An image and its instances, by class name.

    Args:
        file_name: path of the image, relative to the folder of the images.
        instances: (class name, segmentation, is_crowd). A segmentation is an (H, W) bool mask,
            the path of a PNG (see :func:`read_mask`), or polygons or RLE as COCO has them.
        size: (height, width) of the image that the instances were drawn on; None if nothing tells.
        may_be_stuff: whether an instance may be of a class that is stuff, as where an annotator
            has drawn polygons around everything.
    """

    file_name: str
    instances: Sequence[Instance] = ()
    size: Optional[Tuple[int, int]] = None
    may_be_stuff: bool = False


def usable_segmentation(segmentation: Any, source: str, omitted: Optional[Omissions]) -> Any:
    """
    A segmentation without what is no mask.

    Args:
        segmentation: as exporters write it: also None, empty, of polygons of two points, or the
            numbers of one polygon without a list around them.
        source: the annotation, named where something is left out.
        omitted: see :func:`leave_out`.

    Returns:
        what is left of it; None if that is nothing.
    """
    if segmentation is None or segmentation == [] or segmentation == {}:
        leave_out(omitted, "instance without a mask (a box alone, or nothing)", source)
        return None
    if not isinstance(segmentation, list):
        return segmentation
    polygons: List[Any] = segmentation
    if all(isinstance(number, (int, float)) for number in segmentation):
        polygons = [segmentation]
    kept = [p for p in polygons if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0]
    if len(kept) < len(polygons):
        detail = f"{source}: {len(polygons) - len(kept)} of {len(polygons)}"
        leave_out(omitted, "polygon of fewer than three points", detail)
    return kept or None


def plain_path(file_name: str) -> str:
    """A path as this machine has it: one of Windows' has backslashes."""
    return file_name.replace("\\", "/")
