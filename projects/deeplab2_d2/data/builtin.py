"""
The datasets that this package registers beside Detectron2's, each if absent.

Only names and paths are registered; no file is opened but the small markers of one's own sets.
"""

import functools
import glob
import os
from typing import Any, Callable, Dict, List, Mapping, Optional

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import read_json_object
from . import dvps, pascal_voc, step
from .camvid import register_camvid
from .catalog import datasets_root
from .image_folder import register_image_folder
from .mapillary_vistas import mapillary_vistas_categories
from .registration import panoptic_metadata, register_own_datasets, register_panoptic_dataset
from .shapes import register_shapes
from .shapes_classification import NAME as SHAPES_CLASSIFICATION
from .shapes_layers import register_shapes_layers
from .shapes_video import register_shapes_video
from .shared_names import offer_shared_names

_CATEGORY_KEYS = (
    "thing_classes",
    "stuff_classes",
    "thing_colors",
    "stuff_colors",
    "thing_dataset_id_to_contiguous_id",
    "stuff_dataset_id_to_contiguous_id",
)
_CLASS_KEYS = (*_CATEGORY_KEYS, "ignore_label", "label_divisor")


def register_all(root: Optional[str] = None) -> None:
    """
    Register every dataset of this package.

    Args:
        root: folder of all datasets; default :func:`datasets_root`.
    """
    root = datasets_root() if root is None else os.path.expanduser(root)
    register_shapes(root)
    register_shapes_layers(root)
    register_shapes_video(root)
    register_coco_with_instances(root)
    offer_shared_names(root)
    register_pascal_voc(root)
    register_camvid(root)
    for name, folder in (("imagenet_1k", "imagenet"), (SHAPES_CLASSIFICATION,) * 2):
        register_image_folder(name, os.path.join(root, folder))
    register_step(root)
    register_dvps(root)
    register_test_splits(root)
    register_own_datasets(root)


def register_coco_with_instances(root: str) -> None:
    """
    Register ``coco_2017_{train,val}_panoptic_instances``: Detectron2's COCO panoptic sets with the
    polygons of ``instances_*.json``.
    """
    for split in ("train", "val"):
        classes = MetadataCatalog.get(f"coco_2017_{split}_panoptic")
        annotations = os.path.join(root, "coco", "annotations")
        register_panoptic_dataset(
            f"coco_2017_{split}_panoptic_instances",
            {key: classes.get(key) for key in _CATEGORY_KEYS},
            image_root=os.path.join(root, "coco", f"{split}2017"),
            panoptic_root=os.path.join(root, "coco", f"panoptic_{split}2017"),
            panoptic_json=os.path.join(annotations, f"panoptic_{split}2017.json"),
            instances_json=os.path.join(annotations, f"instances_{split}2017.json"),
            has_instances=True,
        )


def register_pascal_voc(root: str) -> None:
    """Register ``pascal_voc_2012_{train,train_aug,val,trainval}``, of classes without instances."""
    metadata = panoptic_metadata(pascal_voc.pascal_voc_categories())
    folder = os.path.join(root, pascal_voc.FOLDER)
    for split in pascal_voc.SPLITS:
        register_panoptic_dataset(
            f"pascal_voc_2012_{split}",
            metadata,
            image_root=os.path.join(folder, "JPEGImages"),
            panoptic_root=os.path.join(folder, f"panoptic_{split}"),
            panoptic_json=os.path.join(folder, f"panoptic_{split}.json"),
        )


def register_step(root: str) -> None:
    """Register ``{kitti_step,motchallenge_step}_panoptic_{train,val,trainval,test}``."""
    for release in step.STEP_RELEASES:
        metadata = panoptic_metadata(step.step_categories(release))
        folder = os.path.join(root, release)
        for split in step.SPLITS:
            register_panoptic_dataset(
                f"{release}_panoptic_{split}",
                metadata,
                image_root=folder,
                panoptic_root=os.path.join(folder, step.PANOPTIC_FOLDER),
                panoptic_json=step.panoptic_json(folder, release, split),
            )
        _register_images(
            f"{release}_panoptic_test",
            MetadataCatalog.get(f"{release}_panoptic_val").as_dict(),
            folder,
            functools.partial(step.load_step_images, folder, release),
        )


def register_dvps(root: str) -> None:
    """Register ``{cityscapes_dvps,semkitti_dvps}_panoptic_{train,val,test}``."""
    for name, release in dvps.DVPS_RELEASES.items():
        metadata = panoptic_metadata(dvps.dvps_categories(name))
        folder = os.path.join(root, name)
        for split in dvps.LABELED_SPLITS:
            register_panoptic_dataset(
                f"{name}_panoptic_{split}",
                metadata,
                image_root=folder,
                panoptic_root=os.path.join(folder, dvps.PANOPTIC_FOLDER),
                panoptic_json=dvps.dvps_json(folder, name, split),
                label_divisor=release.label_divisor,
            )
        images = os.path.join(folder, dvps.FRAMES_FOLDER, "test")
        _register_images(
            f"{name}_panoptic_test",
            MetadataCatalog.get(f"{name}_panoptic_val").as_dict(),
            images,
            functools.partial(dvps.load_dvps_images, images),
        )
        for split in (*dvps.LABELED_SPLITS, "test"):
            dataset = MetadataCatalog.get(f"{name}_panoptic_{split}")
            dataset.set(video_format=name, vpq_windows=release.vpq_windows)


def register_test_splits(root: str) -> None:
    """
    Register images without annotations, for predictions that a server evaluates:
    ``cityscapes_fine_panoptic_test``, ``coco_2017_test-dev_panoptic`` and
    ``mapillary_vistas_panoptic_test``.

    Their metadata have ``has_ground_truth`` False and no ``panoptic_json``.
    """
    cityscapes = os.path.join(root, "cityscapes", "leftImg8bit", "test")
    coco = os.path.join(root, "coco", "test2017")
    image_info = os.path.join(root, "coco", "annotations", "image_info_test-dev2017.json")
    vistas = os.path.join(root, "mapillary_vistas", "testing", "images")
    # Not of the validation split, whose name another project may register with metadata of its own.
    vistas_classes = {
        **panoptic_metadata(mapillary_vistas_categories()),
        "ignore_label": 255,
        "label_divisor": 1000,
        "evaluator_type": "coco_panoptic_seg",
    }
    for name, classes, image_root, load in (
        (
            "cityscapes_fine_panoptic_test",
            MetadataCatalog.get("cityscapes_fine_panoptic_val").as_dict(),
            cityscapes,
            lambda: load_cityscapes_images(cityscapes),
        ),
        (
            "coco_2017_test-dev_panoptic",
            MetadataCatalog.get("coco_2017_val_panoptic").as_dict(),
            coco,
            lambda: load_image_info(image_info, coco),
        ),
        (
            "mapillary_vistas_panoptic_test",
            vistas_classes,
            vistas,
            lambda: load_images(os.path.join(vistas, "*.jpg")),
        ),
    ):
        _register_images(name, classes, image_root, load)


def _register_images(
    name: str,
    classes: Mapping[str, Any],
    image_root: str,
    load: Callable[[], List[Dict[str, Any]]],
) -> None:
    """Register images without annotations, if no dataset has that name yet."""
    if name in DatasetCatalog.list():
        return
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        image_root=image_root,
        evaluator_type=classes["evaluator_type"],
        has_ground_truth=False,
        **{key: classes.get(key) for key in _CLASS_KEYS},
    )


def load_images(pattern: str) -> List[Dict[str, Any]]:
    """
    Dataset dicts of image files, sorted.

    Args:
        pattern: of their paths, as for ``glob``.

    Returns:
        dicts with ``file_name`` and ``image_id`` (the name without its extension).

    Raises:
        FileNotFoundError: if there is none.
    """
    files = sorted(glob.glob(pattern))
    if not files:
        raise FileNotFoundError(f"no image matches {pattern}")
    return [
        {"file_name": file, "image_id": os.path.splitext(os.path.basename(file))[0]}
        for file in files
    ]


def load_cityscapes_images(image_root: str) -> List[Dict[str, Any]]:
    """As :func:`load_images`; the ids are without ``_leftImg8bit``, as Detectron2 has them."""
    suffix = "_leftImg8bit"
    dicts = load_images(os.path.join(glob.escape(image_root), "*", f"*{suffix}.png"))
    return [{**d, "image_id": d["image_id"][: -len(suffix)]} for d in dicts]


def load_image_info(json_file: str, image_root: str) -> List[Dict[str, Any]]:
    """
    Dataset dicts of a COCO ``image_info`` file.

    Args:
        json_file: with a list ``images``.
        image_root: their folder.

    Returns:
        dicts with ``file_name``, ``image_id``, ``height`` and ``width``.
    """
    return [
        {
            "file_name": os.path.join(image_root, image["file_name"]),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
        }
        for image in read_json_object(json_file)["images"]
    ]
