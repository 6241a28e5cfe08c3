"""
A training step of Panoptic-DeepLab on a CPU beside Detectron2's project, and of MaX-DeepLab-S.

ResNet-50 at stride 16 with separable decoders in both, Adam, two crops: forward with losses,
backward, optimizer. Each runs in a process of its own, as its training program does: ours keeps
freed memory. Detectron2's time is scaled by the two networks' multiply-adds. A call's memory is
what it adds to weights, gradients and the optimizer's state.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

from apart import answer, measure_apart
from measuring import Measurement, measure

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_R50 = (
    "Cityscapes-PanopticSegmentation/"
    "panoptic_deeplab_R_50_os16_paper_poly_60k_bs32_crop_1025_2049.yaml"
)
_MAX_S = "COCO-PanopticSegmentation/max_deeplab_S_os16_poly_100k_bs64_crop_641_641.yaml"
_THINGS = range(11, 19)
_CHANNELS_LAST = ["SOLVER.DEEPLAB2.CHANNELS_LAST", True]


def rows(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """``--quick`` takes small crops, of Panoptic-DeepLab alone."""
    if args.device != "cpu":
        print("training steps beside Detectron2's: skipped, --device is not cpu")
        return
    size = (65, 129) if args.quick else (513, 1025)
    even = (size[0] - 1, size[1] - 1)
    shared = {"repeats": args.repeats, "batch": 2}
    theirs = {**shared, "peer": True, "size": even}
    ours = {**shared, "config": _R50, "size": size}
    scale = _multiply_adds(ours) / _multiply_adds(theirs)
    peer = measure_apart(__file__, theirs, threads=args.threads)
    name = f"training step, Panoptic-DeepLab, ResNet-50, 2 x {size[0]}x{size[1]}"
    yield {"name": f"{name}: Detectron2's network", "measurement": peer}
    for words, options in (("", []), (", channels last", _CHANNELS_LAST)):
        yield {
            "name": name + words,
            "measurement": measure_apart(
                __file__, {**ours, "options": options}, threads=args.threads
            ),
            "peer": "Detectron2, scaled to our M-Adds",
            "peer_seconds": scale * peer.seconds,
        }
    if args.quick:
        return
    side = 641
    for words, options in (("", []), (", channels last", _CHANNELS_LAST)):
        call = {**shared, "config": _MAX_S, "size": (side, side), "batch": 1, "options": options}
        yield {
            "name": f"training step, MaX-DeepLab-S, 1 x {side}x{side}{words}",
            "measurement": measure_apart(__file__, call, threads=args.threads),
        }


def _multiply_adds(call: Dict[str, Any]) -> int:
    """Of the network's forward pass on an image."""
    import torch
    from bench_networks import detectron2_model
    from torch.utils.flop_counter import FlopCounterMode

    size = tuple(call["size"])
    images = torch.zeros(1, 3, *size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if "peer" in call:
            model = detectron2_model(size, "cpu")
            features = model.backbone(images)
            for head in (model.sem_seg_head, model.ins_embed_head):
                head.layers(features)
        else:
            _our_step({**call, "options": []}).model.eval().predict(images)
    return counter.get_total_flops() // 2


def _our_step(call: Dict[str, Any]) -> Any:
    import torch
    from detectron2.config import get_cfg
    from training_memory import TrainingStep

    import deeplab2_d2

    cfg = get_cfg()
    deeplab2_d2.add_deeplab2_config(cfg)
    cfg.merge_from_file(str(_CONFIGS / call["config"]))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *call["options"]])
    torch.manual_seed(0)
    is_max = call["config"] == _MAX_S
    step = TrainingStep(cfg, _samples(cfg, tuple(call["size"]), call["batch"], is_max))
    if cfg.SOLVER.DEEPLAB2.CHANNELS_LAST:
        step.model.to(memory_format=torch.channels_last)
    return step


def _samples(cfg: Any, size: Tuple[int, int], batch: int, is_max: bool) -> List[Dict[str, Any]]:
    import torch
    from training_memory import make_samples

    from deeplab2_d2.data.segment_map import build_segment_map
    from deeplab2_d2.data.targets import PanopticTargetGenerator

    if is_max:
        return make_samples(cfg, size, batch)
    ids, segments = _segments(size)
    segment_map, table = build_segment_map(
        ids, segments, num_classes=19, thing_ids=set(_THINGS), label_divisor=1000
    )
    targets = PanopticTargetGenerator(ignore_label=255)(segment_map, table)
    image = torch.full((3, *size), 100, dtype=torch.uint8)
    return [{"image": image, **targets.tensors()}] * batch


def _segments(size: Tuple[int, int]) -> Tuple[Any, List[Dict[str, int]]]:
    """A map of ids with twenty boxes on a ground, and their dicts."""
    import numpy as np

    rng = np.random.default_rng(0)
    ids = np.ones(size, np.int32)
    for number in range(2, 22):
        y, x = (int(rng.integers(0, side - 20)) for side in size)
        ids[y : y + size[0] // 6, x : x + size[1] // 12] = number
    found = [int(number) for number in np.unique(ids)]
    segments = [
        {"id": number, "category_id": 0 if number == 1 else 11, "iscrowd": 0, "area": 1}
        for number in found
    ]
    return ids, segments


def _peers_step(call: Dict[str, Any]) -> Callable[[], None]:
    import torch
    from bench_networks import detectron2_model
    from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator

    size = tuple(call["size"])
    model = detectron2_model(size, "cpu").train()
    targets = PanopticDeepLabTargetGenerator(255, list(_THINGS))(*_segments(size))
    image = torch.full((3, *size), 100, dtype=torch.uint8)
    samples = [{"image": image, **targets} for _ in range(call["batch"])]
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack(list(model(samples).values())).sum().backward()
        optimizer.step()

    return step


def _measure_here(call: Dict[str, Any]) -> Measurement:
    import deeplab2_d2

    if "peer" in call:
        step = _peers_step(call)
    else:
        deeplab2_d2.keep_freed_memory()
        step = _our_step(call)
    return measure(step, repeats=call["repeats"])


if __name__ == "__main__":
    # Modules that tests and benchmarks share.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    answer(_measure_here(json.loads(sys.argv[1])))
