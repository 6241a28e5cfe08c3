"""
Evaluations from image files to scores, an image at a time: where the time goes, and how much of it
an evaluation takes that works on several images at once. "As before" is in a process of its own: a
plain loop whose network is without what :mod:`bench_forms` takes away and has attention in its lean
form, and whose semantic scores PyTorch resamples.

Images are generated, of COCO's size and classes. The networks are whole and untrained; what they
say is replaced by maps as a trained one gives them, so that post-processing and evaluators have
segments of usual number and size.
"""

import contextlib
import functools
import importlib
import io
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, Tuple

import bench_forms
import numpy as np
from apart import answer, measure_apart

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.evaluation import inference_on_dataset
from measuring import Measurement
from operator_inputs import make_prediction, make_slots
from PIL import Image
from torch import Tensor, nn

from deeplab2_d2.data.panoptic_writer import PanopticWriter, Segment
from deeplab2_d2.data.registration import panoptic_metadata, register_panoptic_dataset
from deeplab2_d2.engine import DeepLab2Trainer, load_config
from deeplab2_d2.engine.testing import load_test_model
from deeplab2_d2.models import labels_are_enough
from deeplab2_d2.ops import resampling

_CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "COCO-PanopticSegmentation"
_MODELS = {
    "MobileNetV3-L reduced": (
        "panoptic_deeplab_MobileNetV3_large_reduced_os16_paper_poly_200k_bs64_crop_641_641.yaml"
    ),
    "ResNet-50": "panoptic_deeplab_R_50_os32_poly_200k_bs64_crop_641_641.yaml",
    "MaX-S": "max_deeplab_S_os16_poly_100k_bs64_crop_641_641.yaml",
}
_DATASET = "deeplab2_d2_benchmark_panoptic"
_SIZE = (480, 640)
_BEFORE = "as before"


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    names = ["MobileNetV3-L reduced"] if args.quick else list(_MODELS)
    num_images = 2 if args.quick else 20
    with tempfile.TemporaryDirectory() as folder, _dataset(Path(folder), num_images):
        for name in names:
            yield from _rows(args, name, folder)


def _load(name: str, folder: str, device: str, *options: str) -> CfgNode:
    options = ("MODEL.DEVICE", device, "DATASETS.TEST", f"('{_DATASET}',)", *options)
    options = ("OUTPUT_DIR", folder, "MODEL.WEIGHTS", "", *options)
    return load_config(str(_CONFIGS / _MODELS[name]), list(options))


def _build(cfg: CfgNode) -> Any:
    model = load_test_model(cfg, allow_random_weights=True)
    model.head.register_forward_hook(_as_trained)
    return model


def _in_turn(cfg: CfgNode, model: nn.Module) -> Any:
    loader = DeepLab2Trainer.build_test_loader(cfg, _DATASET)
    evaluator = DeepLab2Trainer.build_evaluator(cfg, _DATASET)
    return inference_on_dataset(model, loader, evaluator)


def _rows(args: Any, name: str, folder: str) -> Iterator[Dict[str, Any]]:
    load = functools.partial(_load, name, folder, args.device)
    configs = [
        load("DATALOADER.NUM_WORKERS", "0"),
        load("DATALOADER.NUM_WORKERS", "1"),
        load("DATALOADER.NUM_WORKERS", "1", "TEST.DEEPLAB2.PQ_ON_THE_FLY", "True"),
    ]
    model = _build(configs[0])
    num_images = len(DatasetCatalog.get(_DATASET))
    repeats = 1 if args.quick else min(args.repeats, 3)
    before = None
    if args.device == "cpu":
        call = {"name": name, "num_images": num_images, "repeats": repeats}
        before = measure_apart(__file__, call, threads=args.threads)
        yield {"name": f"{name}, evaluation an image, in turn, {_BEFORE}", "measurement": before}

    def in_turn(cfg: CfgNode) -> Any:
        return _in_turn(cfg, model)

    def ours(cfg: CfgNode) -> Any:
        return DeepLab2Trainer.test(cfg, model)

    expected, parts = _parts_of(configs[0], model)
    for part, times in parts.items():
        yield {
            "name": f"{name}, an image's {part}",
            "measurement": Measurement(median(times), min(times), len(times), None),
        }
    # By turns, so that what else the machine does falls on all alike.
    calls: Dict[str, Tuple[Callable[[CfgNode], Any], CfgNode]] = {
        "in turn, NUM_WORKERS 0": (in_turn, configs[0]),
        "in turn, NUM_WORKERS 1": (in_turn, configs[1]),
        "ours, NUM_WORKERS 1": (ours, configs[1]),
        "ours, PQ_ON_THE_FLY": (ours, configs[2]),
    }
    seconds: Dict[str, List[float]] = defaultdict(list)
    for _ in range(repeats):
        for label, (call, cfg) in calls.items():
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
                found = call(cfg)
            seconds[label].append((time.perf_counter() - start) / num_images)
            if repr(found) != repr(expected):
                raise RuntimeError(f"{label}: the scores differ from those of the plain loop")
    for label, times in list(seconds.items())[1:]:
        for peer in list(seconds)[: 1 if label.startswith("in turn") else 2]:
            yield {
                "name": f"{name}, evaluation an image, {label}",
                "measurement": Measurement(median(times), min(times), repeats, None),
                "peer": peer,
                "peer_seconds": median(seconds[peer]),
            }
        if before is not None:
            yield {
                "name": f"{name}, evaluation an image, {label}",
                "measurement": Measurement(median(times), min(times), repeats, None),
                "peer": f"in turn, {_BEFORE}",
                "peer_seconds": before.seconds,
            }


def _measure_before(call: Dict[str, Any]) -> Measurement:
    for step in bench_forms.BEFORE:
        step()
    attention = importlib.import_module("deeplab2_d2.layers.axial_attention")
    resampling.has_kernels = attention.has_kernels = lambda *_: False
    with tempfile.TemporaryDirectory() as folder, _dataset(Path(folder), call["num_images"]):
        cfg = _load(call["name"], folder, "cpu", "DATALOADER.NUM_WORKERS", "0")
        model = _build(cfg)
        times = []
        for _ in range(call["repeats"]):
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                _in_turn(cfg, model)
            times.append((time.perf_counter() - start) / call["num_images"])
    return Measurement(median(times), min(times), len(times), None)


def _as_trained(head: nn.Module, inputs: Any, prediction: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """A forward hook: the maps of a prediction are replaced, all others stay."""
    made: Dict[str, Tensor] = {}
    if "center_heatmap" in prediction:
        made = _centers(*prediction["semantic_logits"].shape[1:])
    elif "mask_logits" in prediction:
        num_classes = prediction["class_logits"].shape[2] - 1
        made = _slots(num_classes, *prediction["mask_logits"].shape[1:])
    return {**prediction, **{name: maps.to(prediction[name]) for name, maps in made.items()}}


# Made once: it is no part of what is timed.
@functools.lru_cache(maxsize=None)
def _centers(num_channels: int, height: int, width: int) -> Dict[str, Tensor]:
    return make_prediction(1, num_channels, (height, width), 12, noise=0.3)


@functools.lru_cache(maxsize=None)
def _slots(num_classes: int, num_slots: int, height: int, width: int) -> Dict[str, Tensor]:
    masks, classes = make_slots(1, num_slots, num_classes, (height, width))
    # Scaled, so that some slots are sure of their class and pixels of their slot.
    return {"mask_logits": 6 * masks, "class_logits": 3 * classes}


def _parts_of(cfg: CfgNode, model: Any) -> Tuple[Any, Dict[str, List[float]]]:
    """Scores of a loop in turn, and seconds of an image in each part of it."""
    parts: Dict[str, List[float]] = defaultdict(list)

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run_timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments)
            parts[part].append(time.perf_counter() - start)
            return result

        return run_timed

    dataset = DeepLab2Trainer.build_test_loader(cfg, _DATASET).dataset
    for index in range(len(dataset)):
        timed("decoding and resizing", dataset.__getitem__)(index)
    evaluators = DeepLab2Trainer.build_evaluator(cfg, _DATASET)._evaluators
    for evaluator in evaluators:
        evaluator.process = timed(f"{type(evaluator).__name__}", evaluator.process)
        evaluator.evaluate = timed("scores at the end, of all images", evaluator.evaluate)
    model.predict = timed("network", model.predict)
    model.postprocess = timed("post-processing", model.postprocess)
    loader = DeepLab2Trainer.build_test_loader(cfg, _DATASET)
    with contextlib.redirect_stdout(io.StringIO()), labels_are_enough():
        scores = inference_on_dataset(model, loader, evaluators)
    del model.predict, model.postprocess
    end = parts.pop("scores at the end, of all images")
    parts["share of the scores at the end"] = [sum(end) / len(dataset)]
    return scores, parts


@contextlib.contextmanager
def _dataset(folder: Path, num_images: int) -> Iterator[None]:
    """Images with the metadata of COCO's panoptic set, registered within the block."""
    categories = [
        {key: category[key] for key in ("id", "name", "isthing")} for category in COCO_CATEGORIES
    ]
    writer = PanopticWriter(
        panoptic_root=str(folder / "panoptic"),
        panoptic_json=str(folder / "panoptic.json"),
        categories=categories,
    )
    rng = np.random.default_rng(0)
    for number in range(num_images):
        coarse = rng.integers(0, 256, (_SIZE[0] // 8, _SIZE[1] // 8, 3)).astype(np.uint8)
        photo = Image.fromarray(coarse).resize(_SIZE[::-1], Image.Resampling.BICUBIC)
        photo.save(folder / f"{number}.jpg", quality=92)
        writer.add(f"{number}.jpg", _SIZE, _segments(rng, categories))
    register_panoptic_dataset(
        _DATASET,
        panoptic_metadata(categories),
        image_root=str(folder),
        panoptic_root=str(folder / "panoptic"),
        panoptic_json=writer.close(),
    )
    try:
        yield
    finally:
        DatasetCatalog.remove(_DATASET)
        MetadataCatalog.remove(_DATASET)
        MetadataCatalog.pop(f"{_DATASET}_as_instances", None)


def _segments(rng: np.random.Generator, categories: List[Dict[str, Any]]) -> List[Segment]:
    """Bands of stuff, and discs of things before them."""
    things = [category["id"] for category in categories if category["isthing"]]
    stuff = [category["id"] for category in categories if not category["isthing"]]
    ys, xs = np.mgrid[: _SIZE[0], : _SIZE[1]]
    band = ys * 4 // _SIZE[0]
    bands = rng.choice(stuff, 4, replace=False)
    segments = [Segment(band == k, int(category)) for k, category in enumerate(bands)]
    for category in rng.choice(things, 10):
        (y, x), radius = rng.random(2) * _SIZE, rng.uniform(0.02, 0.12) * _SIZE[1]
        segments.append(Segment((ys - y) ** 2 + (xs - x) ** 2 < radius**2, int(category)))
    return segments


if __name__ == "__main__":
    answer(_measure_before(json.loads(sys.argv[1])))
