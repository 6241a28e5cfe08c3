"""The classes of a dataset as programs show them."""

from typing import Any, Dict, Tuple

import numpy as np
from detectron2.data import Metadata

from ..structures import DatasetClasses
from ..visualization import make_class_colors

# Of a dataset that does not name its classes.
_NUM_UNNAMED = 256


class Palette:
    """
    Names, colors and COCO categories of classes, by contiguous id.

    Attributes:
        names: of the classes; () where the dataset does not name them.
        colors: (C, 3) RGB.
        categories: COCO's entries, ``id``, ``name`` and ``isthing``; in the order of the dataset.
    """

    def __init__(self, metadata: Metadata):
        """
        Args:
            metadata: of the dataset that the model was trained on.
        """
        classes = DatasetClasses.from_metadata(metadata, needs_things=False)
        self.names: Tuple[str, ...] = classes.names
        self._by_class: Dict[int, Dict[str, Any]] = classes.categories if classes.names else {}
        self.categories = tuple(self._by_class.values())
        colors = metadata.get("stuff_colors")
        self.colors = np.array(colors or make_class_colors(len(self.names) or _NUM_UNNAMED))

    def name(self, class_id: int) -> str:
        """Of a class."""
        return str(self.category(class_id)["name"])

    def category(self, class_id: int) -> Dict[str, Any]:
        """COCO's entry of a class."""
        unnamed = {"id": class_id, "name": f"class {class_id}", "isthing": 0}
        return self._by_class.get(class_id, unnamed)
