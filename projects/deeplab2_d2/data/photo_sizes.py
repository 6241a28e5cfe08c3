"""What is drawn on a photo must be of its size, as training reads it: upright."""

from typing import Sequence

from ..structures import is_photo_turned, photo_size


def check_drawn_size(photo: str, found: Sequence[int], what: str) -> None:
    """
    Args:
        photo: file of the photo.
        found: (height, width) of what was drawn on it.
        what: that is, named in errors.

    Raises:
        FileNotFoundError: if there is no photo.
        ValueError: if the photo cannot be read, or is of another size.
    """
    size = photo_size(photo)
    if tuple(found) == size:
        return
    reason = ""
    if tuple(found) == size[::-1] and is_photo_turned(photo):
        reason = (
            ". The photo has an EXIF orientation, is read upright, and was drawn on as it is "
            "stored: turn what was drawn, or store the photo upright without EXIF"
        )
    raise ValueError(
        f"{what} must be of the size of its image {photo}, {size}, got {tuple(found)}{reason}"
    )
