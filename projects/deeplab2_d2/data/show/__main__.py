"""
Draw training samples of a dataset with their targets, after augmentation, as a PNG sheet.

    python -m deeplab2_d2.data.show DATASET [--config-file FILE] [--output FILE] [KEY VALUE ...]

Without a config, the defaults of this package hold, and ``--crop``.
"""

import argparse
import itertools
import sys
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from PIL import Image

from ...command import run_command
from ...config import add_deeplab2_config, merge_config_file
from ...records import DatasetMapper, find_record
from ...structures import atomic_path
from ...visualization import (
    Entry,
    class_legend,
    draw_heatmap,
    draw_image,
    draw_map,
    draw_offsets,
    draw_semantic,
    hatch,
    overlay,
    sheet,
)
from ..catalog import check_registered
from ..dataset_mapper import PanopticDatasetMapper
from ..loader import build_train_loader
from ..targets import PanopticTargetGenerator
from ..user_code import add_register_argument, register_user_modules

# Of pairs of frames: the offsets of a sample with where they count, and their titles.
_FRAME_OFFSETS = (
    ("frame_offsets", "frame_offset_weights", "offsets to the previous frame"),
    ("next_center_offsets", "next_offset_weights", "offsets from the next frame"),
)


def sample_pictures(sample: Dict[str, Any], colors: np.ndarray) -> Dict[str, np.ndarray]:
    """
    Pictures of one training sample by their titles.

    Args:
        sample: of a training mapper, RGB.
        colors: (C, 3) RGB by contiguous class id.

    Returns:
        (H, W, 3) uint8 pictures: the image and its classes, hatched where unlabeled, and weights,
        centers and offsets with instance targets, how many masks lie on a pixel with instances, and
        whatever the sample has of another frame and of depth.
    """
    image = draw_image(sample["image"])
    classes = overlay(image, draw_semantic(sample["sem_seg"], colors))
    pictures = {
        "image": image,
        "classes": hatch(classes, _is_unlabeled(sample, len(colors))),
    }
    if "sem_seg_weights" in sample:
        weights = sample["sem_seg_weights"].numpy()
        pictures["semantic weights"] = draw_heatmap(weights, maximum=max(float(weights.max()), 1.0))
    if "instances" in sample:
        num_masks = sample["instances"].gt_masks.tensor.sum(dim=0).numpy()
        heat = draw_heatmap(num_masks, maximum=max(float(num_masks.max()), 1.0))
        pictures["masks on a pixel"] = overlay(image, heat, opacity=0.8)
    if "center_heatmap" in sample:
        centers = draw_heatmap(sample["center_heatmap"])
        pictures["centers"] = overlay(image, centers, opacity=0.8)
        is_used = sample["offset_weights"] > 0
        pictures["offsets"] = draw_offsets(sample["center_offsets"], mask=is_used)
    for name in ("previous", "next"):
        if f"{name}_image" in sample:
            pictures[f"{name} image"] = draw_image(sample[f"{name}_image"])
    if "previous_heatmap" in sample:
        centers = draw_heatmap(sample["previous_heatmap"])
        previous = pictures.get("previous image", image)
        pictures["previous centers"] = overlay(previous, centers, opacity=0.8)
    for name, weights_name, title in _FRAME_OFFSETS:
        if name in sample:
            pictures[title] = draw_offsets(sample[name], mask=sample[weights_name] > 0)
    if "depth" in sample:
        pictures["depth"] = draw_map(sample["depth"][None], "depth")
    return pictures


def sample_legend(
    samples: Sequence[Dict[str, Any]], names: Sequence[str], colors: np.ndarray
) -> List[Entry]:
    """The classes that are somewhere in samples, and "unlabeled" if there is any such pixel."""
    shown = np.unique(np.concatenate([np.unique(sample["sem_seg"]) for sample in samples]))
    entries = class_legend(names, colors, shown)
    is_any = any(bool(_is_unlabeled(sample, len(names)).any()) for sample in samples)
    return entries + [("unlabeled", None)] if is_any else entries


def _is_unlabeled(sample: Dict[str, Any], num_classes: int) -> np.ndarray:
    """(H, W) bool."""
    labels: np.ndarray = sample["sem_seg"].numpy()
    return (labels < 0) | (labels >= num_classes)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit status."""
    return run_command("show", _show, _parse(arguments))


def _show(options: argparse.Namespace) -> None:
    register_user_modules(options.register)
    check_registered(options.dataset)
    cfg = _config(options)
    loader = build_train_loader(cfg, _mapper(cfg))
    batches = itertools.islice(loader, options.num_samples)
    samples = [sample for batch in batches for sample in batch]
    metadata = MetadataCatalog.get(options.dataset)
    colors = np.array(metadata.stuff_colors)
    pictures = [sample_pictures(sample, colors) for sample in samples]
    rows = [list(row.values()) for row in pictures]
    cell_size = (options.cell, options.cell) if options.cell else None
    picture = sheet(
        rows,
        titles=list(pictures[0]),
        legend=sample_legend(samples, metadata.stuff_classes, colors),
        cell_size=cell_size,
    )
    with atomic_path(options.output) as temporary:
        Image.fromarray(picture).save(temporary)
    for sample in samples:
        print(sample["file_name"])
    print(f"Wrote {options.output}")


def _mapper(cfg: CfgNode) -> DatasetMapper:
    """That of the config's model; without one, with Panoptic-DeepLab's kind of targets."""
    record = find_record(cfg)
    if record is not None and record.build_mapper is not None:
        return record.build_mapper(cfg, True)
    return PanopticDatasetMapper(cfg, build_targets=_default_targets)


def _default_targets(cfg: CfgNode, ignore_label: int) -> PanopticTargetGenerator:
    return PanopticTargetGenerator(ignore_label=ignore_label)


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", metavar="DATASET", help="name of a registered dataset")
    parser.add_argument("--config-file", default=None, help="whose INPUT to use")
    parser.add_argument("--crop", type=int, nargs=2, default=None, help="height and width")
    parser.add_argument("--num-samples", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cell", type=int, default=0, help="side of a picture; 0 = as it is")
    parser.add_argument("--output", default="samples.png")
    add_register_argument(parser)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")
    return parser.parse_intermixed_args(arguments)


def _config(options: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.CROP.SIZE = [513, 513]
    if options.config_file:
        merge_config_file(cfg, options.config_file)
    cfg.INPUT.FORMAT = "RGB"
    cfg.merge_from_list(options.opts)
    if options.crop:
        cfg.INPUT.CROP.SIZE = options.crop
    cfg.DATASETS.TRAIN = (options.dataset,)
    # One image a batch and no worker processes: the pictures depend on the seed alone.
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SEED = options.seed
    return cfg


if __name__ == "__main__":
    sys.exit(main())
