"""ONNX files whose convolutions have 8-bit weights and inputs."""

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...data import ResizeToRange
from ...data.reading import read_image
from ...structures import atomic_path, list_image_names, write_json
from ..config_error import ConfigError
from .comparison import Runner, run_file
from .description import describe, to_text
from .formats import INPUT, require_packages, write_onnx
from .writing import ExportOptions, build_image_model, example_images, file_size

# Runs that are timed; the median counts.
_NUM_RUNS = 5


@dataclass(frozen=True)
class Int8Options:
    """
    Attributes:
        folder: of images whose activations give the ranges.
        num_images: of them, in the order of their names, evenly spread.
    """

    folder: str
    num_images: int = 32


@dataclass(frozen=True)
class Int8Report:
    """
    A file of 8 bits beside the one of 32 that it was made from.

    Attributes:
        megabytes: of the files, 32 bits and 8.
        seconds: of CPU time for one image, the median of five.
        agreement: part of the labels (of the first output) of held-out images, or of those of
            calibration where there are no others, that are equal; None for raw maps.
        largest_difference: of the raw maps, over the largest value of each; None for labels.
        num_images: that were compared.
    """

    megabytes: Tuple[float, float]
    seconds: Tuple[float, float]
    agreement: Optional[float]
    largest_difference: Optional[float]
    num_images: int

    def __str__(self) -> str:
        size, speed = self.megabytes, self.seconds
        if self.agreement is None:
            same = f"largest relative difference of a map {self.largest_difference:.3f}"
        else:
            same = f"{100 * self.agreement:.2f} % of labels equal"
        return (
            f"int8: {size[1]:.2f} MB (float32 {size[0]:.2f}), {speed[1]:.3f} s of CPU time an "
            f"image (float32 {speed[0]:.3f}), {same} on {self.num_images} images"
        )


def quantize(
    cfg: CfgNode, options: ExportOptions, int8: Int8Options, weights: str = ""
) -> Int8Report:
    """
    Write an ONNX file of 8 bits, and a JSON of its description beside it.

    Static quantization by onnxruntime, weights by channel, of convolutions alone: what
    post-processing computes stays as it is.

    Args:
        cfg, options, weights: see :func:`export`.
        int8: the images of calibration; half as many others are compared.

    Raises:
        ConfigError: if there is no image, or the model cannot be exported.
        ImportError: if a package is missing.
    """
    require_packages(["onnx", "onnxruntime"], "--int8")
    if not options.output.endswith(".onnx"):
        raise ConfigError(f"--output must end in .onnx for --int8, got {options.output!r}")
    images, others = _load_images(cfg, int8)
    model = build_image_model(cfg, options, weights)
    description = describe(cfg, model)
    with tempfile.TemporaryDirectory() as folder, atomic_path(options.output) as temporary:
        plain = os.path.join(folder, "float32.onnx")
        write_onnx(plain, model, example_images(model), to_text(description))
        _quantize(plain, temporary, images)
        report = _compare(plain, temporary, others or images)
    write_json(os.path.splitext(options.output)[0] + ".json", description, indent=1)
    return report


def _load_images(cfg: CfgNode, int8: Int8Options) -> Tuple[List[Tensor], List[Tensor]]:
    """Images of calibration and others, each (1, 3, h, w) as evaluation resizes it."""
    if not os.path.isdir(int8.folder):
        raise ConfigError(f"--calibration {int8.folder}: no such folder")
    if int8.num_images < 1:
        raise ConfigError(f"--calibration-images must be at least 1, got {int8.num_images}")
    names = list_image_names(int8.folder)
    if not names:
        raise ConfigError(f"--calibration {int8.folder}: no image in it")
    resize = ResizeToRange(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    def load(name: str) -> Tensor:
        image = read_image(os.path.join(int8.folder, name), "RGB")
        image = resize.get_transform(image).apply_image(image)
        values = np.ascontiguousarray(image.astype("float32").transpose(2, 0, 1))
        return torch.from_numpy(values)[None]

    count = min(int8.num_images, len(names))
    chosen = [names[len(names) * k // count] for k in range(count)]
    rest = [name for name in names if name not in set(chosen)]
    num_rest = min(max(count // 2, 1), len(rest))
    compared = [rest[len(rest) * k // num_rest] for k in range(num_rest)]
    return [load(name) for name in chosen], [load(name) for name in compared]


class _Reader:
    """Images as onnxruntime's calibration asks for them."""

    def __init__(self, images: List[Tensor]):
        self._images: Iterator[Tensor] = iter(images)

    def get_next(self) -> Optional[Dict[str, Any]]:
        image = next(self._images, None)
        return None if image is None else {INPUT: image.numpy()}


def _quantize(source: str, target: str, images: List[Tensor]) -> None:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    # It warns of sizes that it could not know, image by image.
    onnxruntime.set_default_logger_severity(3)

    class Reader(_Reader, CalibrationDataReader):
        pass

    logging.disable(logging.WARNING)  # Of a step before that does not know dynamic sizes.
    try:
        quantize_static(
            source,
            target,
            Reader(images),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)


def _compare(plain: str, small: str, images: List[Tensor]) -> Int8Report:
    runners = (run_file(plain, "onnx"), run_file(small, "onnx"))
    num_equal = num_labels = 0
    largest = 0.0
    for image in images:
        pairs = list(zip(*(runner(image) for runner in runners)))
        if not pairs[0][0].is_floating_point():
            num_labels += pairs[0][0].numel()
            num_equal += int((pairs[0][0] == pairs[0][1]).sum())
            continue
        for one, other in pairs:
            scale = max(float(one.abs().max()), 1e-6)
            largest = max(largest, float((one - other).abs().max()) / scale)
    seconds = [_median_time(runner, images[0]) for runner in runners]
    return Int8Report(
        megabytes=(file_size(plain), file_size(small)),
        seconds=(seconds[0], seconds[1]),
        agreement=num_equal / num_labels if num_labels else None,
        largest_difference=None if num_labels else largest,
        num_images=len(images),
    )


def _median_time(runner: Runner, image: Tensor) -> float:
    times = []
    for _ in range(_NUM_RUNS):
        start = time.process_time()
        runner(image)
        times.append(time.process_time() - start)
    return sorted(times)[_NUM_RUNS // 2]
