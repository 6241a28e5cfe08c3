"""
Show what the dense CRF does to coarse scores of annotated images.

    python -m deeplab2_d2.engine.crf_pictures --image IMAGE [IMAGE ...]
        --segments PANOPTIC.png [PANOPTIC.png ...] [--out PICTURE.png] [--stride 8] [--noise 1.0]

The scores are made of the annotation as a network might give them: each segment of the panoptic PNG
(ids in its colors, 0 is void) is a class; its share of a cell of the stride, times --contrast, with
Gaussian noise, is enlarged bilinearly. Prints pixel accuracy and mean IoU over the segments before
and after the CRF, with DeepLab's parameters unless told otherwise, and draws a row an image.
"""

import argparse
import sys
from dataclasses import fields
from typing import List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tabulate import tabulate
from torch import Tensor

from ..command import run_command
from ..data.reading import read_image_bytes
from ..postprocessing import CRFOptions, refine_with_crf
from ..structures import atomic_path, read_panoptic_png
from ..visualization import draw_image, draw_semantic, make_class_colors, overlay, sheet

VOID = -1
_CELL = (384, 512)


def coarse_scores(
    labels: Tensor, num_classes: int, *, stride: int, contrast: float, noise: float, seed: int = 0
) -> Tensor:
    """
    Scores as a network of some output stride might give them for an image of known labels.

    Args:
        labels: (H, W) int64 in [0, num_classes), or VOID.
        stride: side of the cells, in pixels.
        contrast: score of a class that fills a cell.
        noise: standard deviation of what is added to each cell's scores.

    Returns:
        (num_classes, H, W) float32.
    """
    classes = torch.arange(num_classes)[:, None, None]
    share = F.avg_pool2d((labels == classes).float(), stride, ceil_mode=True)
    generator = torch.Generator().manual_seed(seed)
    scores = contrast * share + noise * torch.randn(share.shape, generator=generator)
    size = (int(labels.shape[0]), int(labels.shape[1]))
    return F.interpolate(scores[None], size=size, mode="bilinear", align_corners=True)[0]


def score_labels(labels: Tensor, truth: Tensor, num_classes: int) -> Tuple[float, float]:
    """Pixel accuracy, and mean IoU over the classes of the truth; its void pixels do not count."""
    is_known = truth != VOID
    pairs = truth[is_known] * num_classes + labels[is_known]
    counts = torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
    hits, total = counts.diag().double(), counts.sum()
    union = counts.sum(dim=0) + counts.sum(dim=1) - hits
    is_there = counts.sum(dim=1) > 0
    return float(hits.sum() / total), float((hits / union)[is_there].mean())


def parse_arguments(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deeplab2_d2.engine.crf_pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--image", required=True, nargs="+", metavar="FILE")
    parser.add_argument(
        "--segments", required=True, nargs="+", metavar="FILE", help="panoptic PNG of each image"
    )
    parser.add_argument("--out", metavar="FILE", help="PNG to write")
    parser.add_argument("--stride", type=int, default=8, help="of the scores, in pixels")
    parser.add_argument("--contrast", type=float, default=4.0, help="score of a filled cell")
    parser.add_argument("--noise", type=float, default=1.0, help="of the scores")
    for option in fields(CRFOptions):
        name = "--" + option.name.replace("_", "-")
        parser.add_argument(name, type=type(option.default), default=option.default)
    args = parser.parse_args(arguments)
    if len(args.image) != len(args.segments):
        parser.error(f"{len(args.image)} images must have as many --segments")
    if args.stride < 1:
        parser.error(f"--stride must be at least 1, got {args.stride}")
    return args


def main(args: argparse.Namespace) -> None:
    options = CRFOptions(
        **{option.name: getattr(args, option.name) for option in fields(CRFOptions)}
    )
    rows, table = [], []
    for image_file, segments_file in zip(args.image, args.segments):
        image = read_image_bytes(image_file, "RGB")
        ids = read_panoptic_png(segments_file)
        if ids.shape != image.shape[:2]:
            raise ValueError(
                f"{segments_file} must be of the image's size, {image.shape[:2]}, got {ids.shape}"
            )
        # 0 stays void, also where no pixel is.
        known = np.unique(np.append(ids, 0))
        truth = torch.from_numpy(np.searchsorted(known, ids)).long() + VOID
        num_classes = len(known) - 1
        if num_classes == 0:
            raise ValueError(f"{segments_file} must have a segment, got void alone")
        scores = coarse_scores(
            truth, num_classes, stride=args.stride, contrast=args.contrast, noise=args.noise
        )
        refined = refine_with_crf(scores, torch.from_numpy(image).permute(2, 0, 1), options)
        labels = [each.argmax(dim=0) for each in (scores, refined)]
        table.append([100 * x for each in labels for x in score_labels(each, truth, num_classes)])
        colors = make_class_colors(num_classes)
        rows.append([draw_image(image), *(_draw(image, each, colors) for each in labels)])
    names = [*args.image, f"mean of {len(table)}"]
    table.append(np.mean(table, axis=0).tolist())
    headers = ["image", "accuracy before", "mIoU before", "accuracy after", "mIoU after"]
    lines = [[name, *numbers] for name, numbers in zip(names, table)]
    print(tabulate(lines, headers=headers, floatfmt=".1f"))
    if args.out:
        titles = ("image", f"scores of stride {args.stride}", "after the CRF")
        with atomic_path(args.out) as temporary:
            Image.fromarray(sheet(rows, titles=titles, cell_size=_CELL)).save(
                temporary, format="PNG"
            )
        print(f"Wrote {args.out}")


def _draw(image: np.ndarray, labels: Tensor, colors: np.ndarray) -> np.ndarray:
    return overlay(image, draw_semantic(labels, colors), opacity=0.65)


if __name__ == "__main__":
    sys.exit(run_command("crf_pictures", lambda: main(parse_arguments())))
