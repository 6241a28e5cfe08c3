"""
From masks or instance annotations and a semantic map to COCO panoptic format.

See ``convert.py`` for the command and ``docs/tutorial_own_data.md`` for how to use it.
"""

import os
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import BrokenImageError, find_near_file, mask_fault, read_photo, write_json
from .annotated_images import AnnotatedImage, usable_segmentation
from .catalog import check_registered
from .coco_source import size_in
from .conversion_outputs import SOFTWARE, check_outputs
from .marker import MARKER, read_marker
from .mask_files import decode_segmentation
from .omissions import Omissions, leave_out
from .panoptic_writer import PanopticWriter, Segment, instance_annotations, pngs_of_images
from .photo_sizes import check_drawn_size
from .registration import panoptic_metadata
from .semantic_maps import SemanticMaps

Categories = Sequence[Mapping[str, Any]]
# Of an omission: an image that is left out, because it or a mask or map of it cannot be read.
UNREADABLE = "image that cannot be read, or a mask or map of it"


def images_of_dataset(name: str, image_root: str) -> List[AnnotatedImage]:
    """
    Images and instances of a dataset that is registered with Detectron2.

    Args:
        name: of the dataset; its dicts have ``annotations`` with ``segmentation``.
        image_root: file names are made relative to it.

    Returns:
        the images.
    """
    check_registered(name)
    # First, for Detectron2 learns the classes of COCO files from the files.
    dataset_dicts = DatasetCatalog.get(name)
    classes = MetadataCatalog.get(name).get("thing_classes")
    if classes is None:
        raise ValueError(
            f"dataset {name!r} must have thing_classes in its metadata, or a file that names them"
        )
    return [
        AnnotatedImage(
            os.path.relpath(dataset_dict["file_name"], image_root),
            [
                (classes[a["category_id"]], a.get("segmentation"), bool(a.get("iscrowd", 0)))
                for a in dataset_dict.get("annotations", ())
            ],
            size_in(dataset_dict),
        )
        for dataset_dict in dataset_dicts
    ]


def convert_split(
    folder: str,
    name: str,
    split: str,
    images: Sequence[AnnotatedImage],
    *,
    image_root: str,
    categories: Categories,
    semantic_root: Optional[str] = None,
    sources: Sequence[str] = (),
    background: Optional[str] = None,
    omitted: Optional[Omissions] = None,
    **map_options: Any,
) -> str:
    """
    Write one split of a dataset and its entry in ``panoptic_dataset.json``.

    Stuff comes from the semantic map. Instances lie over it, the larger under the smaller, so that
    none hides another that it surrounds. What has neither is unlabeled; so are pixels that the
    semantic map gives to a thing but no instance covers.

    Args:
        folder: of the dataset; below ``$DETECTRON2_DATASETS`` it is then registered by itself.
        name: of the dataset; the split becomes ``<name>_<split>``.
        split: its name.
        images: what to write.
        image_root: folder of the images; they stay where they are.
        categories: ``id``, ``name`` and ``isthing`` of every class.
        semantic_root: folder of the semantic maps, ``<image without its ending>.png`` with one
            channel of category ids; None for a dataset without stuff.
        sources: other files that were read.
        background: name of the stuff class that pixels have which nothing else covers; None: they
            are unlabeled.
        omitted: where images and masks go that cannot be read; None: the first is an error.
        map_options: of :class:`SemanticMaps`.

    Returns:
        the name of the split's dataset.

    Raises:
        FileNotFoundError: if an image, a mask or a semantic map is missing.
        ValueError: if a class is not among the categories or is no thing, if sizes differ, if a map
            has a value that is neither a category nor ``unlabeled``, or if the folder holds a
            dataset with another name or other categories. Before anything is written: if a file
            name leads out of ``image_root``, two images would have one annotation, or a file would
            be written over that no conversion wrote.
    """
    panoptic_metadata(categories)
    background_id = _background_id(categories, background)
    marker = _read_marker(folder, name, categories)
    paths = _paths(split, image_root, folder)
    maps = None if semantic_root is None else SemanticMaps(semantic_root, **map_options)
    check_outputs(
        folder,
        paths,
        pngs_of_images(image.file_name for image in images),
        inputs=[*sources, *_files_of(images, image_root, maps)],
        input_folders=[image_root] if semantic_root is None else [image_root, semantic_root],
        earlier=marker["splits"].get(split, {}),
    )
    writer = PanopticWriter(
        panoptic_root=os.path.join(folder, paths["panoptic"]),
        panoptic_json=os.path.join(folder, paths["panoptic_json"]),
        categories=categories,
        software=SOFTWARE,
    )
    things = {c["id"] for c in categories if c["isthing"]}
    entries: List[Dict[str, Any]] = []
    instances: List[Dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        read = _read_segments(image, image_root, categories, maps, background_id, omitted)
        if read is None:
            continue
        size, segments = read
        kept = writer.add(image.file_name, size, segments, image_id)
        kept = [segment for segment in kept if segment.category_id in things]
        instances += instance_annotations(kept, image_id=image_id, first_id=len(instances) + 1)
        entry = {"id": image_id, "file_name": image.file_name}
        entries.append({**entry, "height": size[0], "width": size[1]})
    if omitted is not None and images and not entries:
        raise ValueError(f"no image can be used: all are left out\n{omitted.report()}")
    writer.close()
    content = {
        "info": {"contributor": SOFTWARE},
        "licenses": [],
        "images": entries,
        "annotations": instances,
    }
    content["categories"] = [dict(c) for c in categories if c["isthing"]]
    write_json(os.path.join(folder, paths["instances_json"]), content, indent=1)
    marker["splits"][split] = paths
    write_json(os.path.join(folder, MARKER), marker, indent=1)
    return f"{name}_{split}"


def _paths(split: str, image_root: str, folder: str) -> Dict[str, str]:
    """Of the split's files, relative to the folder of the dataset."""
    return {
        "images": os.path.relpath(image_root, folder),
        "panoptic": f"panoptic_{split}",
        "panoptic_json": os.path.join("annotations", f"panoptic_{split}.json"),
        "instances_json": os.path.join("annotations", f"instances_{split}.json"),
    }


def _files_of(
    images: Sequence[AnnotatedImage], image_root: str, maps: Optional[SemanticMaps]
) -> Iterable[str]:
    """The files that images and their annotations are read from."""
    for image in images:
        yield os.path.join(image_root, image.file_name)
        if maps is not None:
            yield maps.path_of(image.file_name)
        for _, segmentation, _ in image.instances:
            if isinstance(segmentation, str):
                yield segmentation


def _read_segments(
    image: AnnotatedImage,
    image_root: str,
    categories: Categories,
    maps: Optional[SemanticMaps],
    background: Optional[int],
    omitted: Optional[Omissions],
) -> Optional[Tuple[Tuple[int, int], List[Segment]]]:
    """Size and segments of an image, from the lowest on; None of one that was left out."""
    photo = os.path.join(image_root, image.file_name)
    if omitted is not None and not os.path.isfile(photo):
        near = find_near_file(photo)
        omitted.add("image that is not there", f"{photo}, but {near}" if near else photo)
        return None
    try:
        # All pixels, so that a file that was cut short is found.
        height, width = read_photo(photo).shape[:2]
        size = (height, width)
        if image.size is not None:
            check_drawn_size(photo, image.size, "its annotation")
        segments: List[Segment] = []
        if background is not None:
            segments.append(Segment(np.ones(size, bool), background))
        if maps is not None:
            segments += maps.segments(image.file_name, photo, categories)
        segments += _instances(image, photo, size, categories, omitted)
    except BrokenImageError as error:
        if omitted is None:
            raise
        omitted.add(UNREADABLE, str(error))
        return None
    return size, segments


def _instances(
    image: AnnotatedImage,
    photo: str,
    size: Tuple[int, int],
    categories: Categories,
    omitted: Optional[Omissions],
) -> List[Segment]:
    by_name = {c["name"]: c for c in categories}
    segments = []
    for name, segmentation, is_crowd in image.instances:
        category = by_name.get(name)
        if category is None or not (category["isthing"] or image.may_be_stuff):
            known = sorted(n for n, c in by_name.items() if c["isthing"] or image.may_be_stuff)
            raise ValueError(f"{image.file_name}: instance of {name!r}, which is none of {known}")
        source = f"{image.file_name}: instance of {name!r}"
        usable = segmentation
        if not isinstance(segmentation, (str, np.ndarray)):
            usable = usable_segmentation(segmentation, source, omitted)
            fault = mask_fault(usable, size, allows_short_polygons=False) if usable else None
            if fault is not None:
                leave_out(omitted, "mask that cannot be used", f"{source}: {fault}")
                usable = None
        if usable is None:
            continue
        mask = decode_segmentation(usable, size)
        what = segmentation if isinstance(segmentation, str) else name
        check_drawn_size(photo, mask.shape, f"mask {what}")
        segments.append(Segment(mask, category["id"], is_crowd))
    # Stuff below things, and the larger below the smaller.
    things = {c["id"] for c in categories if c["isthing"]}
    return sorted(segments, key=lambda s: (s.category_id in things, -int(s.mask.sum())))


def _background_id(categories: Categories, background: Optional[str]) -> Optional[int]:
    if background is None:
        return None
    found = [c["id"] for c in categories if c["name"] == background and not c["isthing"]]
    if not found:
        raise ValueError(f"background must be a category that is stuff, got {background!r}")
    return found[0]


def _read_marker(folder: str, name: str, categories: Categories) -> Dict[str, Any]:
    path = os.path.join(folder, MARKER)
    if not os.path.lexists(path):
        return {"name": name, "categories": [dict(c) for c in categories], "splits": {}}
    marker = read_marker(path)
    if marker["name"] != name or marker["categories"] != [dict(c) for c in categories]:
        raise ValueError(
            f"{path} is of dataset {marker['name']!r} with {len(marker['categories'])} categories; "
            f"its name and categories must be the same for every split"
        )
    return marker
