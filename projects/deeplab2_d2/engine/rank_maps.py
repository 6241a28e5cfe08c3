"""
Show how a model orders instances: its ranking map, and for each pair why one is on top.

    python -m deeplab2_d2.engine.rank_maps --config-file CONFIG --input IMAGE [IMAGE ...]
        [--output FOLDER] [--pair I J] --opts MODEL.WEIGHTS CHECKPOINT ...

Writes a picture an image and prints its instances and the pairs of them that share pixels. With
--pair only that pair, of the numbers in the picture, is told and drawn.
"""

import argparse
import os
import sys
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from PIL import Image
from tabulate import tabulate

from ..command import run_command
from ..data.reading import read_image
from ..data.user_code import add_register_argument, register_user_modules
from ..records import RankedImage
from ..structures import atomic_path, check_distinct_stems, check_not_inputs, stem_of
from ..visualization import (
    draw_boundaries,
    draw_image,
    draw_pair,
    draw_panoptic_overlay,
    draw_ranking_map,
    draw_text,
    sheet,
)
from .ranked_images import check_ranks, rank_file
from .setup import ConfigError, add_random_weights_flag, load_config
from .testing import load_test_model

TITLES = ("image", "detections", "ranking map", "by detection score", "by ranking")
_CELL = (384, 512)


class PairReason(NamedTuple):
    """
    Why one of two instances is above the other.

    Attributes:
        above, below: places among the detections.
        num_shared: pixels of both, in the ranking map's frame.
        above_on_top, below_on_top: mean probability, at these pixels, that the class is on top.
        is_one_class: the map has one channel for both.
        is_against_scores: detection scores would paint them the other way round.
    """

    above: int
    below: int
    num_shared: int
    above_on_top: float
    below_on_top: float
    is_one_class: bool
    is_against_scores: bool


def explain_pair(image: RankedImage, first: int, second: int) -> PairReason:
    """
    Args:
        image: see :class:`RankedImage`.
        first, second: places among its instances.

    Raises:
        ValueError: if a place is none of the image's, or both are the same.
    """
    count = len(image.instances)
    if first == second or not (0 <= first < count and 0 <= second < count):
        raise ValueError(
            f"a pair must be two different instances of 0..{count - 1}, got {first} and {second}"
        )
    scores, ranks = image.instances.scores, image.rank_scores
    # Ties of the ranking go to the detection score, ties of that to the first.
    above, below = sorted((first, second), key=lambda k: (-float(ranks[k]), -float(scores[k]), k))
    shared = _covered(image, above) & _covered(image, below)
    classes = image.instances.pred_classes
    on_top = []
    for k in (above, below):
        channel = image.thing_ids.index(int(classes[k]))
        on_top.append(float(image.ranking_map[channel][shared].mean()) if shared.any() else 0.0)
    return PairReason(
        above=above,
        below=below,
        num_shared=int(shared.sum()),
        above_on_top=on_top[0],
        below_on_top=on_top[1],
        is_one_class=int(classes[above]) == int(classes[below]),
        is_against_scores=float(scores[above]) < float(scores[below]),
    )


def find_sharing_pairs(image: RankedImage) -> Iterator[Tuple[int, int]]:
    """Pairs of instances with common pixels, in the ranking map's frame."""
    for j in range(len(image.instances)):
        for i in range(j):
            if (_covered(image, i) & _covered(image, j)).any():
                yield i, j


def draw_ranked_image(
    image: RankedImage,
    file_name: str,
    colors: Sequence[Sequence[int]],
    pair: Optional[Tuple[int, int]] = None,
) -> List[np.ndarray]:
    """
    Args:
        image: what a model makes of it.
        file_name: of the image, as large as the instances' masks.
        colors: RGB by contiguous class.
        pair: two instances, drawn in one more picture.

    Returns:
        (H, W, 3) uint8 pictures, see :data:`TITLES`. Of the ranking map, where instances are; what
        at least two of them cover has a white line around it.
    """
    ground = draw_image(read_image(file_name, "RGB"))
    table = np.array(colors)
    detections = ground // 2
    for k, mask in enumerate(image.instances.pred_masks):
        color = table[int(image.instances.pred_classes[k])]
        detections = draw_boundaries(detections, mask.int(), color=color)
    for k, mask in enumerate(image.instances.pred_masks):
        if mask.any():
            y, x = mask.nonzero().float().mean(dim=0).long().tolist()
            detections = draw_text(detections, str(k), (y - 6, x - 4))
    thing_colors = table[list(image.thing_ids)]
    covered = [_covered(image, k) for k in range(len(image.instances))]
    is_covered = torch.stack(covered).any(dim=0) if covered else image.conflicts
    ranking = draw_ranking_map(image.ranking_map, is_covered, thing_colors)
    ranking = draw_boundaries(ranking, image.conflicts)
    pictures = [ground, detections, ranking]
    for ranks in (None, image.rank_scores):
        pictures.append(draw_panoptic_overlay(ground, image.merge(ranks), table))
    if pair is not None:
        reason = explain_pair(image, *pair)
        channel = image.thing_ids.index(int(image.instances.pred_classes[reason.above]))
        masks = [_covered(image, k) for k in (reason.above, reason.below)]
        pictures.append(draw_pair(masks[0], masks[1], image.ranking_map[channel]))
    return pictures


def describe_instances(image: RankedImage, names: Sequence[str]) -> str:
    """A table: number in the picture, class, detection score, ranking score, part that is seen."""
    segment_map, segments = image.merge(image.rank_scores)
    seen = {s["instance_id"]: int((segment_map == s["id"]).sum()) for s in segments if s["isthing"]}
    rows = []
    order = sorted(range(len(image.instances)), key=lambda k: -float(image.rank_scores[k]))
    for k in order:
        mask = image.instances.pred_masks[k]
        name = names[int(image.instances.pred_classes[k])]
        part = 100 * seen.get(k, 0) / max(int(mask.sum()), 1)
        rows.append([k, name, float(image.instances.scores[k]), float(image.rank_scores[k]), part])
    headers = ["number", "class", "detection score", "ranking score", "seen (%)"]
    return tabulate(rows, headers=headers, floatfmt=("", "", ".3f", ".3f", ".0f"))


def describe_pair(image: RankedImage, names: Sequence[str], reason: PairReason) -> str:
    """A sentence."""

    def title(k: int) -> str:
        return f"{k} ({names[int(image.instances.pred_classes[k])]})"

    ranks = [float(image.rank_scores[k]) for k in (reason.above, reason.below)]
    text = (
        f"{title(reason.above)} lies on {title(reason.below)}: ranking score {ranks[0]:.3f} over "
        f"{ranks[1]:.3f}"
    )
    if reason.num_shared == 0:
        return f"{text}; they share no pixel, so that neither covers the other"
    if reason.is_one_class:
        text += f"; at {reason.num_shared} shared pixels the map has one class for both"
    else:
        text += (
            f"; at {reason.num_shared} shared pixels it is on top with {reason.above_on_top:.3f}, "
            f"the other with {reason.below_on_top:.3f}"
        )
    return text + ("; detection scores would turn them round" if reason.is_against_scores else "")


def _covered(image: RankedImage, k: int) -> torch.Tensor:
    mask = image.masks[k]
    return mask if mask.dtype == torch.bool else mask >= 0.5


def main(args: argparse.Namespace) -> None:
    """Print and draw, image by image."""
    register_user_modules(args.register)
    cfg = load_config(args.config_file, args.opts)
    cfg.freeze()
    check_ranks(cfg)
    metadata = MetadataCatalog.get((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[0])
    pictures = [os.path.join(args.output, f"{stem_of(path)}_ranking.png") for path in args.input]
    try:
        check_distinct_stems(args.input)
        check_not_inputs(pictures, args.input)
    except ValueError as error:
        raise ConfigError(f"--input: {error}") from error
    model = load_test_model(cfg, allow_random_weights=args.allow_random_weights)
    os.makedirs(args.output, exist_ok=True)
    for path, picture in zip(args.input, pictures):
        image = rank_file(cfg, model, path)
        pairs = list(find_sharing_pairs(image)) if args.pair is None else [tuple(args.pair)]
        try:
            reasons = [explain_pair(image, *pair) for pair in pairs]
        except ValueError as error:
            raise ConfigError(f"--pair: {path}: {error}") from error
        print(f"\n{path}\n{describe_instances(image, metadata.stuff_classes)}")
        for reason in reasons:
            print(describe_pair(image, metadata.stuff_classes, reason))
        row = draw_ranked_image(image, path, metadata.stuff_colors, args.pair)
        titles = TITLES if args.pair is None else (*TITLES, "upper one on top")
        with atomic_path(picture) as temporary:
            drawn = sheet([row], titles=titles, cell_size=_CELL)
            Image.fromarray(drawn).save(temporary, format="PNG")
        print(f"Picture: {picture}")


def parse_arguments(arguments: "list[str] | None" = None) -> argparse.Namespace:
    """See the head of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--input", required=True, nargs="+", metavar="IMAGE")
    parser.add_argument("--output", default="output/rank-maps", metavar="FOLDER")
    parser.add_argument("--pair", nargs=2, type=int, metavar=("I", "J"))
    add_random_weights_flag(parser)
    add_register_argument(parser)
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command("rank_maps", lambda: main(parse_arguments())))
