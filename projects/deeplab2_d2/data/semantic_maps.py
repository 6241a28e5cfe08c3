"""Maps of classes beside photos: where that of a photo is, and what it says."""

import os
from dataclasses import dataclass
from typing import Any, List, Mapping, Sequence

import numpy as np

from ..structures import read_label_map
from .panoptic_writer import Segment
from .photo_sizes import check_drawn_size

# Values that mean "unlabeled", unless a category has them.
UNLABELED = (0, 255)


@dataclass(frozen=True)
class SemanticMaps:
    """
    The semantic maps of a folder.

    Args:
        root: the folder.
        image_suffix: what the names of the images end in beside their stem, as Cityscapes'
            ``_leftImg8bit.png``; "" for any ending.
        map_suffix: what the map's name has instead.
        unlabeled: values that are no category.
        id_divisor: a value from it on is class * ``id_divisor`` + number of an instance, as in
            Cityscapes' ``instanceIds``, and a lesser one of a thing several of them, a crowd; 0:
            all values are classes, and things have no segments.
    """

    root: str
    image_suffix: str = ""
    map_suffix: str = ".png"
    unlabeled: Sequence[int] = UNLABELED
    id_divisor: int = 0

    def path_of(self, file_name: str) -> str:
        """The map of an image; both relative to their folders before."""
        suffix = self.image_suffix
        is_matched = bool(suffix) and file_name.endswith(suffix)
        stem = file_name[: -len(suffix)] if is_matched else os.path.splitext(file_name)[0]
        return os.path.join(self.root, stem + self.map_suffix)

    def segments(
        self, file_name: str, photo: str, categories: Sequence[Mapping[str, Any]]
    ) -> List[Segment]:
        """
        The segments of an image.

        Args:
            file_name: of the image, relative to its folder.
            photo: its path.
            categories: ``id`` and ``isthing`` of each.

        Raises:
            FileNotFoundError: if the map is not there.
            ValueError: if it cannot be read, is of another size than the photo, or has a value that
                is neither a category nor unlabeled.
        """
        file = self.path_of(file_name)
        if not os.path.isfile(file):
            raise FileNotFoundError(f"semantic map {file} of {photo} does not exist")
        values = read_label_map(file, "semantic map")
        check_drawn_size(photo, values.shape, f"semantic map {file}")
        found, counts = np.unique(values, return_counts=True)
        is_instance = (found >= self.id_divisor) & (self.id_divisor > 0)
        classes = np.where(is_instance, found // max(self.id_divisor, 1), found)
        self._check_classes(classes, counts, file, categories)
        is_thing = {c["id"]: bool(c["isthing"]) for c in categories}
        segments = []
        # Classes in the order of the categories, instances in that of their numbers.
        for category in categories:
            number = category["id"]
            if not is_thing[number]:
                mask = np.isin(values, found[classes == number])
                segments += [Segment(mask, number)] if mask.any() else []
            elif self.id_divisor:
                for value, single in zip(found[classes == number], is_instance[classes == number]):
                    segments.append(Segment(values == value, number, is_crowd=not single))
        return segments

    def _check_classes(
        self,
        classes: np.ndarray,
        counts: np.ndarray,
        file: str,
        categories: Sequence[Mapping[str, Any]],
    ) -> None:
        is_unknown = ~np.isin(classes, [*(c["id"] for c in categories), *self.unlabeled])
        if not is_unknown.any():
            return
        share = 100 * counts[is_unknown].sum() / counts.sum()
        raise ValueError(
            f"semantic map {file} has values that are no category id, "
            f"{np.unique(classes[is_unknown])[:10].tolist()} on {share:.1f} % of its pixels; add "
            f"categories, or name the values that mean unlabeled (--unlabeled, here "
            f"{list(self.unlabeled)})"
        )
