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

from ...config import add_deeplab2_config
from ...records import DatasetMapper, find_record
from ...structures import atomic_path
from ...visualization import draw_heatmap, draw_image, draw_offsets, draw_semantic, overlay, sheet
from ..dataset_mapper import PanopticDatasetMapper
from ..loader import build_train_loader
from ..targets import PanopticTargetGenerator

TITLES = ("image", "classes", "semantic weights", "centers", "offsets")


def sample_row(sample: Dict[str, Any], colors: np.ndarray) -> List[np.ndarray]:
    """
    Pictures of one training sample, in the order of ``TITLES``.

    Args:
        sample: of a training mapper, RGB.
        colors: (C, 3) RGB by contiguous class id.

    Returns:
        (H, W, 3) uint8 pictures; without instance targets the first three.
    """
    image = draw_image(sample["image"])
    weights = sample["sem_seg_weights"].numpy()
    row = [
        image,
        overlay(image, draw_semantic(sample["sem_seg"], colors)),
        draw_heatmap(weights, maximum=max(float(weights.max()), 1.0)),
    ]
    if "center_heatmap" in sample:
        row.append(overlay(image, draw_heatmap(sample["center_heatmap"]), opacity=0.8))
        row.append(draw_offsets(sample["center_offsets"], mask=sample["offset_weights"] > 0))
    return row


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit status."""
    options = _parse(arguments)
    try:
        cfg = _config(options)
        loader = build_train_loader(cfg, _mapper(cfg))
        batches = itertools.islice(loader, options.num_samples)
        samples = [sample for batch in batches for sample in batch]
    except (FileNotFoundError, KeyError, ValueError) as error:
        print(f"show: {error.args[0] if error.args else error}", file=sys.stderr)
        return 1
    colors = np.array(MetadataCatalog.get(options.dataset).stuff_colors)
    rows = [sample_row(sample, colors) for sample in samples]
    cell_size = (options.cell, options.cell) if options.cell else None
    picture = sheet(rows, titles=TITLES[: len(rows[0])], cell_size=cell_size)
    with atomic_path(options.output) as temporary:
        Image.fromarray(picture).save(temporary)
    for sample in samples:
        print(sample["file_name"])
    print(f"Wrote {options.output}")
    return 0


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
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")
    return parser.parse_args(arguments)


def _config(options: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.CROP.SIZE = [513, 513]
    if options.config_file:
        cfg.merge_from_file(options.config_file)
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
