"""Training targets: ours against NumPy and Detectron2's Panoptic-DeepLab project."""

from typing import Any, Dict, Iterator

import numpy as np
from measuring import measure

from deeplab2_d2 import ops
from deeplab2_d2.data.segment_map import SegmentTable
from deeplab2_d2.data.targets import PanopticTargetGenerator


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    # Only after our package has made Detectron2 importable.
    from detectron2.projects.panoptic_deeplab.target_generator import (
        PanopticDeepLabTargetGenerator,
    )

    height, width = (256, 512) if args.quick else (1024, 2048)
    segment_map, segments, infos = make_segments(height, width, num_things=40, num_stuff=11)
    ours = PanopticTargetGenerator(ignore_label=255)
    in_numpy = ops.use_reference()(ours.__call__)
    theirs = PanopticDeepLabTargetGenerator(
        ignore_label=255, thing_ids=list(range(11, 19)), sigma=8,
        small_instance_area=4096, small_instance_weight=3,
    )  # fmt: skip
    result, expected = ours(segment_map, segments), theirs(segment_map.astype(np.int64), infos)
    for name, key in (("sem_seg", "sem_seg"), ("sem_seg_weights", "sem_seg_weights")):
        if not np.array_equal(getattr(result, name), expected[key].numpy()):
            raise RuntimeError(f"{name} differs from Detectron2's")
    measurement = measure(lambda: ours(segment_map, segments), repeats=args.repeats)
    for peer, call in (
        ("Detectron2", lambda: theirs(segment_map.astype(np.int64), infos)),
        ("ours in NumPy", lambda: in_numpy(segment_map, segments)),
    ):
        yield {
            "name": f"targets of {height}x{width}, 51 segments",
            "measurement": measurement,
            "peer": peer,
            "peer_seconds": measure(call, repeats=args.repeats).seconds,
        }


def make_segments(height: int, width: int, num_things: int, num_stuff: int) -> Any:
    """Stuff in vertical bands with ellipses of things before them; all segments are visible."""
    rng = np.random.default_rng(0)
    band = np.arange(width) * num_stuff // width
    # As images are read: row by row.
    segment_map = np.broadcast_to(band + 1, (height, width)).astype(np.int32, order="C")
    y, x = np.mgrid[:height, :width]
    for thing in range(num_things):
        center_y, center_x = rng.integers(height), rng.integers(width)
        radius_y, radius_x = rng.integers(height // 50, height // 8), rng.integers(8, width // 10)
        inside = ((y - center_y) / radius_y) ** 2 + ((x - center_x) / radius_x) ** 2 < 1
        segment_map[inside] = num_stuff + thing + 1
    categories = np.concatenate([np.arange(num_stuff), 11 + np.arange(num_things) % 8])
    is_thing = categories >= 11
    table = SegmentTable(categories, is_thing, np.zeros(len(categories), bool))
    infos = [{"id": i + 1, "category_id": int(c), "iscrowd": 0} for i, c in enumerate(categories)]
    return segment_map, table, infos
