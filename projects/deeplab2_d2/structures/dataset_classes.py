"""The classes of a dataset, as its metadata list them."""

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Tuple

_THINGS, _STUFF = "thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id"
_IGNORE_LABEL = 255
_LABEL_DIVISOR = 1000


def is_thing_category(category: Mapping[str, Any]) -> bool:
    """
    Whether a category of COCO panoptic format has instances.

    Raises:
        ValueError: if its ``isthing`` is none of 0, 1, false and true, such as a text, of which any
            would be true.
    """
    value = category.get("isthing")
    if not isinstance(value, int) or value not in (0, 1):
        raise ValueError(
            f"category {category.get('name')!r}: isthing must be 0 or 1, got {value!r}"
        )
    return bool(value)


def _check_contiguous_ids(metadata: Any, *, is_panoptic: bool) -> None:
    if not is_panoptic:
        return
    owners: Dict[int, Any] = {}
    things, stuff = metadata.get(_THINGS) or {}, metadata.get(_STUFF) or {}
    for category, k in {**stuff, **things}.items():
        if k in owners:
            raise ValueError(
                f"dataset {metadata.get('name')} must have a contiguous id of its own for each "
                f"category, thing or stuff, got {k} for the categories {owners[k]} and {category}; "
                "deeplab2_d2.data.panoptic_metadata makes such metadata"
            )
        owners[k] = category


@dataclass(frozen=True)
class DatasetClasses:
    """
    What models, targets and evaluators have to know of the classes of a dataset.

    Two are equal where a model can be trained on both: what the categories are called, and their
    numbers in the files, may differ.

    Attributes:
        num_classes: contiguous ids are 0 to ``num_classes`` - 1; 0 where the metadata have no
            classes, which only a semantic model can do without.
        thing_ids: contiguous ids of the classes that have instances, ascending; all other classes
            are stuff. What is listed as both is a thing.
        ignore_label: semantic label of unlabeled pixels, in ground truth.
        label_divisor: panoptic label = class * label_divisor + instance number.
        names: of the classes, by contiguous id.
        category_ids: from the dataset's category ids to contiguous ids, things first.
    """

    num_classes: int
    thing_ids: Tuple[int, ...]
    ignore_label: int = _IGNORE_LABEL
    label_divisor: int = _LABEL_DIVISOR
    names: Tuple[str, ...] = field(default=(), compare=False, repr=False)
    category_ids: Mapping[int, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def stuff_ids(self) -> Tuple[int, ...]:
        """Contiguous ids of the classes without instances, ascending."""
        return tuple(k for k in range(self.num_classes) if not self.is_thing(k))

    def is_thing(self, contiguous_id: int) -> bool:
        """Whether a class has instances."""
        return contiguous_id in self.thing_ids

    @property
    def categories(self) -> Dict[int, Dict[str, Any]]:
        """
        COCO's entry of a category, ``id``, ``name`` and ``isthing``, by contiguous id.

        A semantic dataset has no ids but the contiguous ones.
        """
        categories: Dict[int, Dict[str, Any]] = {}
        ids = self.category_ids or {k: k for k in range(self.num_classes)}
        for category_id, k in ids.items():
            entry = {"id": category_id, "name": self.names[k], "isthing": int(self.is_thing(k))}
            categories.setdefault(k, entry)
        return categories

    @classmethod
    def from_metadata(cls, metadata: Any, *, needs_things: bool = True) -> "DatasetClasses":
        """
        Args:
            metadata: Detectron2's of a registered dataset, or a dict of the same.
            needs_things: False where the metadata may be of a dataset without panoptic annotation.

        Raises:
            ValueError: if what a panoptic dataset must have is not there, or two of its categories
                have one contiguous id: they would be one class.
        """
        wanted = (_THINGS, _STUFF, "stuff_classes", "label_divisor") if needs_things else ()
        missing = [key for key in wanted if metadata.get(key) is None]
        if missing:
            raise ValueError(
                f"dataset {metadata.get('name')} must be registered with panoptic metadata; it "
                f"lacks {', '.join(missing)}"
            )
        _check_contiguous_ids(metadata, is_panoptic=needs_things)
        things: Mapping[int, int] = metadata.get(_THINGS) or {}
        stuff: Mapping[int, int] = metadata.get(_STUFF) or {}
        names = list(metadata.get("stuff_classes") or ())
        thing_names = list(metadata.get("thing_classes") or ())
        thing_ids = sorted(set(things.values()))
        # Detectron2 names all classes in each list; Mask2Former's of ADE20K has things alone.
        places = thing_ids if len(thing_names) == len(thing_ids) else range(len(thing_names))
        for k, name in zip(places, thing_names):
            if k in thing_ids and k < len(names):
                names[k] = name
        return cls(
            num_classes=len({*things.values(), *stuff.values()}) or len(names),
            thing_ids=tuple(thing_ids),
            ignore_label=int(metadata.get("ignore_label", _IGNORE_LABEL)),
            label_divisor=int(metadata.get("label_divisor", _LABEL_DIVISOR)),
            names=tuple(names),
            category_ids={**things, **{key: k for key, k in stuff.items() if key not in things}},
        )
