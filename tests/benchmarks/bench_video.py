"""Tracking and stitching of a frame, beside the mere addition of two such maps."""

from typing import Any, Dict, Iterator

import numpy as np
import torch
from bench_targets import make_segments
from measuring import measure

from deeplab2_d2.video import (
    continue_stitching,
    continue_tracks,
    start_iou_tracks,
    start_tracks,
    stitch,
    track_by_overlap,
)

_DIVISOR = 1000


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    """A row for each way to carry identity from one frame to the next."""
    height, width = (256, 512) if args.quick else (1024, 2048)
    first = _labels(height, width).to(args.device)
    # All that is seen moves a little.
    second = torch.roll(first, (height // 200, width // 200), (0, 1)).contiguous()
    offsets = torch.zeros(2, height, width, device=args.device)
    _, tracks, _ = continue_tracks(first, offsets, start_tracks(), label_divisor=_DIVISOR)
    _, masks = track_by_overlap(first, start_iou_tracks(), label_divisor=_DIVISOR)
    _, pair = continue_stitching(first, second, None, label_divisor=_DIVISOR)
    addition = measure(lambda: first + second, repeats=args.repeats, device=args.device)
    for name, call in (
        (
            "continue_tracks",
            lambda: continue_tracks(second, offsets, tracks, label_divisor=_DIVISOR),
        ),
        ("track_by_overlap", lambda: track_by_overlap(second, masks, label_divisor=_DIVISOR)),
        ("stitch", lambda: stitch(first, second, label_divisor=_DIVISOR)),
        (
            "continue_stitching",
            lambda: continue_stitching(second, second, pair, label_divisor=_DIVISOR),
        ),
    ):
        yield {
            "name": f"{name} of {height}x{width}, {len(tracks.labels)} tracks",
            "measurement": measure(call, repeats=args.repeats, device=args.device),
            "peer": "adding two maps",
            "peer_seconds": addition.seconds,
        }


def _labels(height: int, width: int) -> torch.Tensor:
    """(height, width) int32 panoptic labels; about 60 of the instances can be seen."""
    segment_map, table, _ = make_segments(height, width, num_things=62, num_stuff=11)
    classes = np.concatenate([[0], table.category_ids])
    is_thing = np.concatenate([[False], table.is_thing])
    # Numbers of things need only differ within their class.
    labels = classes * _DIVISOR + np.where(is_thing, np.arange(len(classes)), 0)
    return torch.from_numpy(labels.astype(np.int32)[segment_map])
