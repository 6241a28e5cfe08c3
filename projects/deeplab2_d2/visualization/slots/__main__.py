"""
Pictures of the mask slots of a model: PNGs and one page, index.html.

    python -m deeplab2_d2.visualization.slots --config-file CONFIG [--dataset NAME] [--output DIR]
        [--num-images N] [--images NAME,...] [--masks SLOT,...] [--heads] [KEY VALUE ...]

MODEL.WEIGHTS names a checkpoint (a file, or a published model as deeplab2://NAME). Over N images:
which slot predicts which class, and the average mask of each slot. Of some of them: the attention
maps of chosen masks, and the pixel features as colors.
"""

import argparse
import itertools
import os
import sys
from typing import Any, List, Optional, Sequence, Tuple, cast

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image
from tqdm import tqdm

from ...command import run_command
from ...data.loader import load_dataset_dicts
from ...data.user_code import add_register_argument, register_user_modules
from ...engine import ConfigError, add_random_weights_flag, load_config
from ...engine.loaders import build_test_loader
from ...engine.slot_images import NUM_MASKS, SlotImages
from ...engine.testing import load_model
from ...models import Segmenter, SlotInference
from ...records import all_records, find_record
from ...structures import atomic_path
from .. import make_class_colors
from . import SlotReport, save_figure

# Images with pictures of their own, where none are chosen.
NUM_PICTURED = 3


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit status."""
    options = _parse(arguments)
    return run_command("slots", lambda: print(f"Wrote {draw_slots(_config(options), options)}"))


def draw_slots(cfg: CfgNode, options: argparse.Namespace) -> str:
    """Draw what the options ask for; the path of the page."""
    dataset_name = cfg.DATASETS.TEST[0]
    files = [d["file_name"] for d in load_dataset_dicts([dataset_name])[: options.num_images]]
    if not files:
        raise ConfigError(f"dataset {dataset_name} must have an image to draw, got none")
    pictured = _pictured_files(files, options.images)
    model = cast(Segmenter, load_model(cfg, allow_random_weights=options.allow_random_weights))
    names, colors = _classes(cfg, model)
    output = options.output or os.path.join(cfg.OUTPUT_DIR, "slots")

    def save(name: str, picture: Any) -> None:
        with atomic_path(os.path.join(output, name)) as temporary:
            if isinstance(picture, np.ndarray):
                Image.fromarray(picture).save(temporary, format="PNG")
            else:
                save_figure(picture, temporary)

    report = SlotReport(
        save,
        class_names=names,
        thing_ids=cast(SlotInference, model.inference).thing_ids,
        feature_depth=_slot_channels(cfg),
        draws_heads=options.heads,
    )
    slots = SlotImages(model, colors, options.masks)
    loader = itertools.islice(build_test_loader(cfg, dataset_name), len(files))
    for (sample,) in tqdm(loader, total=len(files), unit="image"):
        image = slots.look(sample, sample["file_name"] in pictured)
        if image is not None:
            report.add_image(image)
    assert slots.statistics is not None
    about = [
        ("config", options.config_file),
        ("weights", cfg.MODEL.WEIGHTS or "none: the network is untrained"),
        ("images", f"the first {len(files)} of {dataset_name}"),
        ("slots", str(len(slots.statistics.firings))),
    ]
    # The page comes last: whatever it shows is there.
    path = os.path.join(output, "index.html")
    content = report.write_page(slots.statistics, about)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(content)
    return path


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="slots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def numbers(text: str) -> List[int]:
        return [int(part) for part in text.split(",")]

    def at_least_one(text: str) -> int:
        if int(text) < 1:
            raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
        return int(text)

    parser.add_argument("--config-file", required=True, metavar="CONFIG", help="of the model")
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TEST")
    parser.add_argument("--output", metavar="DIR", help="default: slots in OUTPUT_DIR")
    parser.add_argument("--num-images", type=at_least_one, default=100, metavar="N", help="100")
    parser.add_argument(
        "--images",
        type=lambda text: text.split(","),
        metavar="NAME,...",
        help="of the N, those with pictures of their own, by file name without folder and ending; "
        f"default: the first {NUM_PICTURED}",
    )
    parser.add_argument(
        "--masks",
        type=numbers,
        default=(),
        metavar="SLOT,...",
        help=f"slots whose attention is drawn; default: of the {NUM_MASKS} largest segments",
    )
    add_random_weights_flag(parser)
    add_register_argument(parser)
    parser.add_argument("--heads", action="store_true", help="draw each head's attention, too")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides, last"
    )
    return parser.parse_args(arguments)


def _config(options: argparse.Namespace) -> CfgNode:
    register_user_modules(options.register)
    cfg = load_config(options.config_file, options.opts)
    # Before anything is read or built.
    _slot_channels(cfg)
    if options.dataset:
        cfg.DATASETS.TEST = (options.dataset,)
    if not cfg.DATASETS.TEST:
        raise ConfigError("config key DATASETS.TEST must name a dataset without --dataset, got ()")
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


def _slot_channels(cfg: CfgNode) -> int:
    """Channels of the pixel features of a config's model, which must have mask slots."""
    record = find_record(cfg)
    if record is None or record.slot_channels is None:
        known = [kind.__name__ for kind, other in all_records() if other.slot_channels is not None]
        raise ConfigError(
            "config key MODEL.META_ARCHITECTURE must be of a model with mask slots, such as "
            f"{', '.join(known)}, got {cfg.MODEL.META_ARCHITECTURE!r}"
        )
    return record.slot_channels(cfg)


def _pictured_files(files: Sequence[str], names: Optional[Sequence[str]]) -> List[str]:
    """Those of the files that have pictures of their own."""
    if not names:
        return list(files[:NUM_PICTURED])
    stems = {os.path.splitext(os.path.basename(file))[0]: file for file in files}
    for name in names:
        if name not in stems:
            raise ConfigError(
                f"--images must name images of the first {len(files)} (--num-images), such as "
                f"{next(iter(stems), None)}, got {name}"
            )
    return [stems[name] for name in names]


def _classes(cfg: CfgNode, model: Segmenter) -> Tuple[List[str], np.ndarray]:
    """Names and colors by contiguous id, of the dataset that the model is made for."""
    metadata = MetadataCatalog.get([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST][0])
    num_classes = model.inference.class_map.num_classes
    names = list(metadata.get("stuff_classes", ()))
    if len(names) != num_classes:
        names = [f"class {k}" for k in range(num_classes)]
    colors = np.array(metadata.get("stuff_colors", ()))
    return names, colors if len(colors) == num_classes else make_class_colors(num_classes)


if __name__ == "__main__":
    sys.exit(main())
