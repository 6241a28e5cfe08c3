"""
Convert annotated images to a panoptic dataset that is registered by itself.

    python -m deeplab2_d2.data.convert --name fruit --split train --images photos \\
        --categories categories.json --semantic maps --masks masks --output datasets/fruit

Instances come from ``--masks`` (a folder of PNGs an image, named by class), ``--instances`` (COCO
instance JSON), ``--labelme`` (a folder of JSONs), ``--cvat`` (the XML of CVAT for images),
``--yolo`` (a folder of label files with polygons) or ``--dataset`` (a registered Detectron2
dataset); stuff from ``--semantic``. What cannot be used is left out and listed at the end.
"""

import argparse
import itertools
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..command import run_command
from .annotated_images import AnnotatedImage
from .category_files import (
    categories_of_dataset,
    categories_of_folder,
    categories_of_names,
    read_categories,
    with_background,
)
from .coco_source import categories_of_coco_json, images_of_coco_json
from .conversion import convert_split, images_of_dataset
from .cvat_source import images_of_cvat, labels_of_cvat
from .labelme_source import images_of_labelme
from .mask_source import images_with_masks, list_images
from .omissions import Omissions
from .user_code import add_register_argument, register_user_modules
from .yolo_source import images_of_yolo

Categories = List[Dict[str, Any]]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit status."""
    return run_command("convert", _convert, _parse(arguments))


def _convert(options: argparse.Namespace) -> None:
    register_user_modules(options.register)
    omitted = Omissions()
    images, categories = _read_source(options, omitted)
    files = (options.categories, options.instances, options.cvat)
    name = convert_split(
        options.output,
        options.name,
        options.split,
        images,
        image_root=options.images,
        categories=with_background(categories, options.background),
        semantic_root=options.semantic,
        sources=[file for file in files if file is not None],
        background=options.background,
        omitted=omitted,
        image_suffix=options.image_suffix,
        map_suffix=options.map_suffix,
        unlabeled=options.unlabeled,
        id_divisor=options.id_divisor,
    )
    if len(omitted):
        print(omitted.report(sys.maxsize if options.all else 10), file=sys.stderr)
    print(f"Wrote {name} to {options.output}. With DETECTRON2_DATASETS set to the folder above:")
    print(f"    python -m deeplab2_d2.data.check {name}")


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="of the dataset")
    parser.add_argument("--split", required=True, help="train, val, ...")
    parser.add_argument("--images", required=True, help="folder of the images")
    parser.add_argument(
        "--categories",
        default=None,
        help="JSON list of {id, name, isthing[, color]}, COCO's JSON, or YOLO's data.yaml; default:"
        " those of an earlier split in --output, else the source's own, all of them things",
    )
    parser.add_argument("--output", required=True, help="folder of the dataset")
    _add_map_arguments(parser)
    parser.add_argument(
        "--background",
        default=None,
        metavar="NAME",
        help="stuff class of the pixels that nothing covers; default: they are unlabeled",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--masks", default=None, help="folder with a folder of masks an image")
    source.add_argument("--instances", default=None, help="COCO instance JSON")
    source.add_argument("--labelme", default=None, help="folder of LabelMe's JSONs")
    source.add_argument("--cvat", default=None, help="XML of CVAT for images 1.1")
    source.add_argument("--yolo", default=None, help="folder of YOLO's label files, of segments")
    source.add_argument("--dataset", default=None, help="registered Detectron2 dataset")
    parser.add_argument("--all", action="store_true", help="print everything that is left out")
    add_register_argument(parser)
    return parser.parse_args(arguments)


def _add_map_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--semantic", default=None, help="folder of maps of category ids")
    parser.add_argument(
        "--image-suffix",
        default="",
        metavar="SUFFIX",
        help="what the images' names end in, as _leftImg8bit.png; --images is then looked through "
        "with its folders",
    )
    parser.add_argument(
        "--map-suffix",
        default=".png",
        metavar="SUFFIX",
        help="what the maps' names have instead, as _gtFine_instanceIds.png; default: .png",
    )
    parser.add_argument(
        "--id-divisor",
        type=int,
        default=0,
        metavar="N",
        help="map values from N on are class * N + instance (Cityscapes' instanceIds: 1000)",
    )
    parser.add_argument(
        "--unlabeled",
        type=lambda text: [int(value) for value in text.split(",")],
        default=[0, 255],
        metavar="VALUE,...",
        help="values of the semantic maps that are no category; default: 0,255",
    )


def _read_source(
    options: argparse.Namespace, omitted: Omissions
) -> Tuple[List[AnnotatedImage], Categories]:
    """Images and categories of what the options name."""
    categories = None
    if options.categories is not None:
        categories = read_categories(options.categories)
    else:
        categories = categories_of_folder(options.output)
    if options.instances is not None:
        own = categories or categories_of_coco_json(options.instances)
        return images_of_coco_json(options.instances, omitted), own
    if options.dataset is not None:
        images = images_of_dataset(options.dataset, options.images)
        return images, categories or categories_of_dataset(options.dataset)
    if options.labelme is not None:
        images = images_of_labelme(options.labelme, options.images, omitted)
        return images, categories or categories_of_names(sorted(_labels(images)))
    if options.cvat is not None:
        images = images_of_cvat(options.cvat, omitted)
        labels = labels_of_cvat(options.cvat) or sorted(_labels(images))
        return images, categories or categories_of_names(labels)
    if categories is None:
        raise ValueError("--categories must be given: the source does not say what its classes are")
    if options.yolo is not None:
        return images_of_yolo(options.yolo, options.images, categories, omitted), categories
    if options.image_suffix:
        if options.masks is not None:
            raise ValueError("--image-suffix must not be given with --masks")
        names = list_images(options.images, options.image_suffix)
        return [AnnotatedImage(name) for name in names], categories
    return images_with_masks(options.images, options.masks), categories


def _labels(images: Sequence[AnnotatedImage]) -> List[str]:
    instances = itertools.chain.from_iterable(image.instances for image in images)
    return list({name for name, _, _ in instances})


if __name__ == "__main__":
    sys.exit(main())
