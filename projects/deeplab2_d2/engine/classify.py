"""
Train and evaluate a backbone as a classifier of images, so that it can be MODEL.WEIGHTS elsewhere.

    python -m deeplab2_d2.engine.classify --data FOLDER --backbone moat0 --recipe strong
    python -m deeplab2_d2.engine.classify --data FOLDER --config-file CONFIG [KEY VALUE ...]
    python -m deeplab2_d2.engine.classify --demo

FOLDER has train/<class>/*.jpg and val/<class>/*.jpg. After training, OUTPUT_DIR/backbone.pth holds
what a segmentation model with the same backbone takes as MODEL.WEIGHTS: the averaged weights where
there are any. The demo draws images first, and takes about a minute.
"""

import argparse
import os
import sys
from typing import Any, Dict, List, Optional, Sequence

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from torch import Tensor

from ..allocation import keep_freed_memory
from ..backbones import backbone_names, find_family
from ..backbones.family import default_node
from ..checkpoint.pickled_file import load_pth
from ..checkpoint.saving import save_pth
from ..command import run_command
from ..data import register_image_folder
from ..data.catalog import datasets_root
from ..data.shapes_classification import NAME as SHAPES
from ..data.shapes_classification import prepare_shapes_classification
from .launcher import launch, run
from .setup import ConfigError, argument_parser

RECIPES = {
    "simple": "configs/ImageNet-Classification/Base-ImageNet-Simple.yaml",
    "strong": "configs/ImageNet-Classification/Base-ImageNet-Strong.yaml",
}
DEMO = "configs/Shapes-Classification/resnet_tiny_os32_cosine_bs32_crop_33_33.yaml"
# Of the strong recipe: the part of the last block that stochastic depth keeps.
_KEPT = 0.8
_WEIGHTS_FILE = "backbone.pth"


def parse_arguments(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Detectron2's arguments, and those above; None: those of the process."""
    parser = argument_parser()
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", default="", metavar="FOLDER", help="with train and val")
    parser.add_argument(
        "--class-index",
        default="",
        metavar="FILE",
        help="order and names of the classes: a folder and a name a line, or ImageNet's JSON",
    )
    parser.add_argument("--backbone", choices=backbone_names(), help="with --recipe")
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="instead of --config-file")
    parser.add_argument("--demo", action="store_true", help="draw a dataset and train on it")
    args = parser.parse_args(arguments)
    if (args.recipe is None) != (args.backbone is None):
        parser.error("--recipe and --backbone go together")
    if sum((args.recipe is not None, bool(args.config_file), args.demo)) != 1:
        parser.error("one of --recipe with --backbone, --config-file and --demo must be given")
    if args.class_index and not args.data:
        parser.error("--class-index needs --data, whose classes it tells")
    if args.demo and args.data:
        parser.error("--demo has a dataset of its own, and takes no --data")
    return args


def classify(args: argparse.Namespace) -> Optional[Dict[str, Any]]:
    """
    Train, or only evaluate, in this process; the main one writes the backbone's weights.

    Args:
        args: from :func:`parse_arguments`.

    Returns:
        The evaluators' results.

    Raises:
        ConfigError, FileNotFoundError, ValueError: if config or data will not do.
    """
    given = list(args.opts)
    if args.demo:
        args.config_file = DEMO
        prepare_shapes_classification(os.path.join(datasets_root(), SHAPES))
    if args.recipe is not None:
        args.config_file = RECIPES[args.recipe]
        args.opts = recipe_options(args.recipe, args.backbone)
    else:
        args.opts = []
    args.opts += _data_options(args.data, args.class_index)
    if "OUTPUT_DIR" not in given:
        args.opts += ["OUTPUT_DIR", os.path.join("output", _run_name(args))]
    args.opts += given
    results = run(args)
    if not args.eval_only and comm.is_main_process():
        folder = args.opts[len(args.opts) - 1 - args.opts[::-1].index("OUTPUT_DIR") + 1]
        print(f"{write_backbone(folder)} is MODEL.WEIGHTS for models with this backbone")
    return results


def recipe_options(recipe: str, backbone: str) -> List[Any]:
    """
    What a recipe sets for a backbone beside its config.

    Args:
        recipe: "simple" or "strong".
        backbone: a network's name.

    Returns:
        ``[KEY, VALUE, ...]``: the name, its family's keys in classification, and of the strong
        recipe drop path, where the family has it.
    """
    family = find_family(backbone)
    prefix = f"MODEL.DEEPLAB2.BACKBONE.{family.node}."
    options: List[Any] = ["MODEL.DEEPLAB2.BACKBONE.NAME", backbone]
    for key, value in family.in_classification.items():
        options += [prefix + key, value]
    default = default_node(family).get("DROP_PATH")
    if recipe == "strong" and default is not None:
        kept = [_KEPT, "linear"] if isinstance(default, list) else _KEPT
        options += [prefix + "DROP_PATH", kept]
    return options


def _data_options(folder: str, class_index: str) -> List[Any]:
    if not folder:
        return []
    name = os.path.basename(os.path.normpath(os.path.abspath(folder)))
    train, val = register_image_folder(name, folder, class_index)
    root = MetadataCatalog.get(train).get("image_root")
    if root != os.path.join(folder, "train"):
        raise ConfigError(f"--data {folder}: dataset {train} is another folder already, {root}")
    if not MetadataCatalog.get(train).get("stuff_classes"):
        raise ConfigError(
            f"--data {folder} must have folders train/<class>/*.jpg and val/<class>/*.jpg"
        )
    count = len(MetadataCatalog.get(train).stuff_classes)
    return [
        *("DATASETS.TRAIN", (train,), "DATASETS.TEST", (val,)),
        *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", count),
    ]


def _run_name(args: argparse.Namespace) -> str:
    if args.recipe is not None:
        return f"{args.backbone}_{args.recipe}"
    return os.path.splitext(os.path.basename(args.config_file))[0]


def write_backbone(folder: str) -> str:
    """
    Write the backbone of a finished run alone, of its averaged weights where it has them.

    Args:
        folder: OUTPUT_DIR.

    Returns:
        The path of what is written.
    """
    saved = load_pth(os.path.join(folder, "model_final.pth"))
    weights: Dict[str, Tensor] = saved.get("average", saved["model"])
    path = os.path.join(folder, _WEIGHTS_FILE)
    backbone = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    save_pth(path, {"model": backbone})
    return path


def main() -> None:
    launch(classify, parse_arguments())


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(run_command("classify", main))
