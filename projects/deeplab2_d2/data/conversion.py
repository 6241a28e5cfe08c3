"""
From masks or instance annotations and a semantic map to COCO panoptic format.

See ``convert.py`` for the command and ``docs/tutorial_own_data.md`` for how to use it.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import photo_size, read_label_map, write_json
from .conversion_outputs import SOFTWARE, check_outputs
from .mask_files import check_mask_folders, decode_segmentation, masks_in, parse_mask_name
from .panoptic_writer import PanopticWriter, Segment, instance_annotations, pngs_of_images
from .photo_sizes import check_drawn_size
from .registration import MARKER, panoptic_metadata

Categories = Sequence[Mapping[str, Any]]
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# Values of a semantic map that mean "unlabeled", unless a category has them.
_UNLABELED = (0, 255)


@dataclass(frozen=True)
class AnnotatedImage:
    """
    An image and its instances, by class name.

    Args:
        file_name: path of the image, relative to the folder of the images.
        instances: (class name, segmentation, is_crowd). A segmentation is an (H, W) bool mask,
            the path of a PNG (see :func:`read_mask`), or polygons or RLE as COCO has them.
        size: (height, width) of the image that the instances were drawn on; None if nothing tells.
    """

    file_name: str
    instances: Sequence[Tuple[str, Any, bool]] = ()
    size: Optional[Tuple[int, int]] = None


def images_with_masks(image_root: str, mask_root: Optional[str]) -> List[AnnotatedImage]:
    """
    Images of a folder with masks in ``<mask_root>/<image without its ending>/``.

    A mask's file is named by its class: ``apple.png``, ``apple_1.png``, ...; ``apple_crowd.png``
    and ``apple_crowd_1.png`` are crowds.

    Args:
        image_root: folder of the images.
        mask_root: folder of the masks; None for images without instances.

    Returns:
        the images in the order of their names; one without a folder has no instances.

    Raises:
        FileNotFoundError: if ``image_root`` has no image, or ``mask_root`` no folder of any.
        ValueError: if there are other files than PNGs among the masks, or folders of no image.
    """
    names = sorted(n for n in os.listdir(image_root) if n.lower().endswith(_IMAGE_ENDINGS))
    if not names:
        raise FileNotFoundError(f"folder {image_root} has no image ({', '.join(_IMAGE_ENDINGS)})")
    if mask_root is None:
        return [AnnotatedImage(name) for name in names]
    stems = [os.path.splitext(name)[0] for name in names]
    check_mask_folders(mask_root, stems)
    return [
        AnnotatedImage(
            name, [parse_mask_name(file) for file in masks_in(os.path.join(mask_root, stem))]
        )
        for name, stem in zip(names, stems)
    ]


def images_of_coco_json(instances_json: str) -> List[AnnotatedImage]:
    """
    Images and instances of a COCO instance annotation.

    Args:
        instances_json: with ``images``, ``annotations`` and ``categories``.

    Returns:
        the images, those without annotations included.
    """
    with open(instances_json) as f:
        content = json.load(f)
    names = {category["id"]: category["name"] for category in content["categories"]}
    instances: Dict[Any, List[Tuple[str, Any, bool]]] = {i["id"]: [] for i in content["images"]}
    for annotation in content["annotations"]:
        instances[annotation["image_id"]].append(
            (
                names[annotation["category_id"]],
                annotation["segmentation"],
                bool(annotation.get("iscrowd", 0)),
            )
        )
    return [
        AnnotatedImage(i["file_name"], instances[i["id"]], _size_in(i)) for i in content["images"]
    ]


def _size_in(entry: Mapping[str, Any]) -> Optional[Tuple[int, int]]:
    """The size that an annotation tells of its image."""
    height, width = entry.get("height"), entry.get("width")
    return None if height is None or width is None else (int(height), int(width))


def images_of_dataset(name: str, image_root: str) -> List[AnnotatedImage]:
    """
    Images and instances of a dataset that is registered with Detectron2.

    Args:
        name: of the dataset; its dicts have ``annotations`` with ``segmentation``.
        image_root: file names are made relative to it.

    Returns:
        the images.
    """
    # Detectron2 knows the classes of many datasets once they are loaded.
    dataset_dicts = DatasetCatalog.get(name)
    classes = MetadataCatalog.get(name).thing_classes
    return [
        AnnotatedImage(
            os.path.relpath(dataset_dict["file_name"], image_root),
            [
                (classes[a["category_id"]], a["segmentation"], bool(a.get("iscrowd", 0)))
                for a in dataset_dict.get("annotations", ())
            ],
            _size_in(dataset_dict),
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
    unlabeled: Sequence[int] = _UNLABELED,
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
        unlabeled: values of the semantic maps that are no category.

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
    marker = _read_marker(folder, name, categories)
    paths = {
        "images": os.path.relpath(image_root, folder),
        "panoptic": f"panoptic_{split}",
        "panoptic_json": os.path.join("annotations", f"panoptic_{split}.json"),
        "instances_json": os.path.join("annotations", f"instances_{split}.json"),
    }
    check_outputs(
        folder,
        paths,
        pngs_of_images(image.file_name for image in images),
        inputs=[*sources, *_files_of(images, image_root, semantic_root)],
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
        photo = os.path.join(image_root, image.file_name)
        size = photo_size(photo)
        if image.size is not None:
            check_drawn_size(photo, image.size, "its annotation")
        segments: List[Segment] = []
        if semantic_root is not None:
            file = _semantic_map_of(image, semantic_root)
            segments = _stuff(file, photo, categories, unlabeled)
        segments += _instances(image, photo, size, categories)
        kept = writer.add(image.file_name, size, segments, image_id)
        kept = [segment for segment in kept if segment.category_id in things]
        instances += instance_annotations(kept, image_id=image_id, first_id=len(instances) + 1)
        entry = {"id": image_id, "file_name": image.file_name}
        entries.append({**entry, "height": size[0], "width": size[1]})
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


def _files_of(
    images: Sequence[AnnotatedImage], image_root: str, semantic_root: Optional[str]
) -> Iterable[str]:
    """The files that images and their annotations are read from."""
    for image in images:
        yield os.path.join(image_root, image.file_name)
        if semantic_root is not None:
            yield _semantic_map_of(image, semantic_root)
        for _, segmentation, _ in image.instances:
            if isinstance(segmentation, str):
                yield segmentation


def _semantic_map_of(image: AnnotatedImage, root: str) -> str:
    return os.path.join(root, os.path.splitext(image.file_name)[0] + ".png")


def _stuff(
    file: str, photo: str, categories: Categories, unlabeled: Sequence[int]
) -> List[Segment]:
    if not os.path.isfile(file):
        raise FileNotFoundError(f"semantic map {file} of {photo} does not exist")
    semantic = read_label_map(file, "semantic map")
    check_drawn_size(photo, semantic.shape, f"semantic map {file}")
    values, counts = np.unique(semantic, return_counts=True)
    is_unknown = ~np.isin(values, [*(c["id"] for c in categories), *unlabeled])
    if is_unknown.any():
        share = 100 * counts[is_unknown].sum() / semantic.size
        raise ValueError(
            f"semantic map {file} has values that are no category id, "
            f"{values[is_unknown][:10].tolist()} on {share:.1f} % of its pixels; add categories, "
            f"or name the values that mean unlabeled (--unlabeled, here {list(unlabeled)})"
        )
    stuff = [c["id"] for c in categories if not c["isthing"]]
    return [Segment(semantic == i, i) for i in stuff if i in values]


def _instances(
    image: AnnotatedImage, photo: str, size: Tuple[int, int], categories: Categories
) -> List[Segment]:
    by_name = {c["name"]: c for c in categories}
    segments = []
    for name, segmentation, is_crowd in image.instances:
        category = by_name.get(name)
        if category is None or not category["isthing"]:
            things = sorted(c["name"] for c in categories if c["isthing"])
            raise ValueError(f"{image.file_name}: instance of {name!r}, which is none of {things}")
        mask = decode_segmentation(segmentation, size)
        what = segmentation if isinstance(segmentation, str) else name
        check_drawn_size(photo, mask.shape, f"mask {what}")
        segments.append(Segment(mask, category["id"], is_crowd))
    return sorted(segments, key=lambda segment: -int(segment.mask.sum()))


def _read_marker(folder: str, name: str, categories: Categories) -> Dict[str, Any]:
    path = os.path.join(folder, MARKER)
    if not os.path.isfile(path):
        return {"name": name, "categories": [dict(c) for c in categories], "splits": {}}
    with open(path) as f:
        marker = json.load(f)
    if not isinstance(marker, dict) or not {"name", "categories", "splits"} <= set(marker):
        raise ValueError(f"{path} must have 'name', 'categories' and 'splits', as a conversion's")
    if marker["name"] != name or marker["categories"] != [dict(c) for c in categories]:
        raise ValueError(
            f"{path} is of dataset {marker['name']!r} with {len(marker['categories'])} categories; "
            f"its name and categories must be the same for every split"
        )
    return marker
