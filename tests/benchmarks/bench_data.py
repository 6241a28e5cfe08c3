"""The dataset mapper and its targets, on generated images of the sizes of COCO and Cityscapes."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
from measuring import measure
from PIL import Image

from deeplab2_d2.data import PanopticDatasetMapper
from deeplab2_d2.data.augmentation import (
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
    ResizeToRange,
)
from deeplab2_d2.data.panoptic_writer import PanopticWriter, Segment
from deeplab2_d2.data.segment_map import build_segment_map
from deeplab2_d2.data.targets import PanopticTargetGenerator

_CATEGORIES = [
    {"id": 0, "name": "blob", "isthing": 1},
    {"id": 1, "name": "ground", "isthing": 0},
]


def rows(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """One row for the mapper and one for the targets at each size."""
    sizes = [((480, 640), 20, (641, 641), [ResizeToRange(641, 641), RandomScale(0.5, 1.5, 0.1)])]
    if not args.quick:
        sizes.append(((1024, 2048), 50, (1025, 2049), [RandomScale(0.5, 2.0, 0.1)]))
    for size, num_things, crop_size, augmentations in sizes:
        with tempfile.TemporaryDirectory() as folder:
            dataset_dict = _write_image(Path(folder), size, num_things)
            text = f"{size[0]}x{size[1]}, {len(dataset_dict['segments_info'])} segments"
            yield _mapper_row(dataset_dict, crop_size, augmentations, text, args.repeats)
            yield _target_row(size, dataset_dict, text, args.repeats)


def _mapper_row(
    dataset_dict: Dict[str, Any],
    crop_size: Tuple[int, int],
    augmentations: List[Any],
    text: str,
    repeats: int,
) -> Dict[str, Any]:
    mapper = PanopticDatasetMapper(
        is_train=True,
        augmentations=[*augmentations, RandomCropOrPad(crop_size), RandomHorizontalFlip()],
        target_generator=PanopticTargetGenerator(ignore_label=255),
        num_classes=2,
        thing_ids=[0],
    )
    # The same scales in every run; several, because the time depends on them.
    rng = np.random.default_rng(0)
    measurement = measure(lambda: mapper(dataset_dict, rng), repeats=4 * repeats)
    peer = measure(_peers_mapper(dataset_dict, crop_size, augmentations[-1]), repeats=4 * repeats)
    return {
        "name": f"mapper to {crop_size[0]}x{crop_size[1]} from {text}",
        "measurement": measurement,
        "peer": "Detectron2's, which leaves small images small",
        "peer_seconds": peer.seconds,
    }


def _peers_mapper(
    dataset_dict: Dict[str, Any], crop_size: Tuple[int, int], scales: RandomScale
) -> Callable[[], Any]:
    """Detectron2's mapper and targets with the same scales, crop and chance of mirroring."""
    from detectron2.data import transforms as T
    from detectron2.projects.panoptic_deeplab import PanopticDeeplabDatasetMapper
    from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator

    with Image.open(dataset_dict["file_name"]) as image:
        short = min(image.size)
    count = round((scales.max_scale - scales.min_scale) / scales.step) + 1
    sides = [round(short * (scales.min_scale + scales.step * index)) for index in range(count)]
    mapper = PanopticDeeplabDatasetMapper(
        augmentations=[
            T.ResizeShortestEdge(sides, 4 * max(sides), "choice"),
            T.RandomCrop("absolute", (crop_size[0] - 1, crop_size[1] - 1)),
            T.RandomFlip(),
        ],
        image_format="RGB",
        panoptic_target_generator=PanopticDeepLabTargetGenerator(
            255, [0], small_instance_area=4096
        ),
    )
    np.random.seed(0)
    return lambda: mapper(dataset_dict)


def _target_row(
    size: Tuple[int, int], dataset_dict: Dict[str, Any], text: str, repeats: int
) -> Dict[str, Any]:
    from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator

    colors = np.asarray(Image.open(dataset_dict["pan_seg_file_name"])).astype(np.int32)
    ids = colors @ np.array([1, 256, 256**2], np.int32)
    segments_info = dataset_dict["segments_info"]
    generator = PanopticTargetGenerator(ignore_label=255)
    peer = PanopticDeepLabTargetGenerator(255, [0], small_instance_area=4096)

    def ours() -> Any:
        segment_map, table = build_segment_map(
            ids, segments_info, num_classes=2, thing_ids={0}, label_divisor=1000
        )
        return generator(segment_map, table)

    return {
        "name": f"targets, {text}",
        "measurement": measure(ours, repeats=repeats),
        "peer": "Detectron2",
        "peer_seconds": measure(lambda: peer(ids, segments_info), repeats=repeats).seconds,
    }


def _write_image(folder: Path, size: Tuple[int, int], num_things: int) -> Dict[str, Any]:
    """An image of noise with discs of many sizes, as JPEG, and its panoptic PNG."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(folder / "x.jpg")
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]]
    segments = [Segment(np.ones(size, bool), 1)]
    for _ in range(num_things):
        (y, x), radius = rng.random(2) * size, rng.uniform(0.01, 0.08) * size[1]
        segments.append(Segment((ys - y) ** 2 + (xs - x) ** 2 < radius**2, 0))
    writer = PanopticWriter(
        panoptic_root=str(folder),
        panoptic_json=str(folder / "panoptic.json"),
        categories=_CATEGORIES,
    )
    writer.add("x.jpg", size, segments)
    (annotation,) = json.loads(Path(writer.close()).read_text())["annotations"]
    return {
        "file_name": str(folder / "x.jpg"),
        "pan_seg_file_name": str(folder / "x.png"),
        "segments_info": annotation["segments_info"],
    }
