"""
Convert annotated images to a panoptic dataset that is registered by itself.

    python -m deeplab2_d2.data.convert --name fruit --split train --images photos \\
        --categories categories.json --semantic maps --masks masks --output datasets/fruit

Instances come from ``--masks`` (a folder of PNGs an image, named by class), ``--instances`` (COCO
instance JSON) or ``--dataset`` (a registered Detectron2 dataset); stuff from ``--semantic``.
"""

import argparse
import json
import sys
from typing import List, Optional, Sequence

from .conversion import (
    AnnotatedImage,
    convert_split,
    images_of_coco_json,
    images_of_dataset,
    images_with_masks,
)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit status."""
    options = _parse(arguments)
    try:
        with open(options.categories) as f:
            categories = json.load(f)
        name = convert_split(
            options.output,
            options.name,
            options.split,
            _read_images(options),
            image_root=options.images,
            categories=categories,
            semantic_root=options.semantic,
            sources=[options.categories, *filter(None, [options.instances])],
            unlabeled=options.unlabeled,
        )
    except (FileNotFoundError, ValueError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 1
    print(f"Wrote {name} to {options.output}. With DETECTRON2_DATASETS set to the folder above:")
    print(f"    python -m deeplab2_d2.data.check {name}")
    return 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="of the dataset")
    parser.add_argument("--split", required=True, help="train, val, ...")
    parser.add_argument("--images", required=True, help="folder of the images")
    parser.add_argument(
        "--categories", required=True, help="JSON: a list of {id, name, isthing[, color]}"
    )
    parser.add_argument("--output", required=True, help="folder of the dataset")
    parser.add_argument("--semantic", default=None, help="folder of maps of category ids")
    parser.add_argument(
        "--unlabeled",
        type=lambda text: [int(value) for value in text.split(",")],
        default=[0, 255],
        metavar="VALUE,...",
        help="values of the semantic maps that are no category; default: 0,255",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--masks", default=None, help="folder with a folder of masks an image")
    source.add_argument("--instances", default=None, help="COCO instance JSON")
    source.add_argument("--dataset", default=None, help="registered Detectron2 dataset")
    return parser.parse_args(arguments)


def _read_images(options: argparse.Namespace) -> List[AnnotatedImage]:
    if options.instances is not None:
        return images_of_coco_json(options.instances)
    if options.dataset is not None:
        return images_of_dataset(options.dataset, options.images)
    return images_with_masks(options.images, options.masks)


if __name__ == "__main__":
    sys.exit(main())
