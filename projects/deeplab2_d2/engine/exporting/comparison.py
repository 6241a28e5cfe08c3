"""An exported file against the model that it was made from."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from ..config_error import ConfigError
from .formats import INPUT, require_packages
from .image_model import ImageModel

Runner = Callable[[Tensor], List[Tensor]]


@dataclass(frozen=True)
class Agreement:
    """
    How two runs of one batch agree.

    Attributes:
        shape: of the batch of images.
        largest_difference: of the raw maps, over the largest value of each; 0 without raw maps.
        num_labels, num_different: labels, and those that differ.
    """

    shape: Tuple[int, ...]
    largest_difference: float
    num_labels: int
    num_different: int

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        if self.num_labels:
            return f"{size}: {self.num_different} of {self.num_labels} labels differ"
        return f"{size}: largest relative difference {self.largest_difference:.1e}"


def run_file(path: str, kind: str) -> Runner:
    """
    An exported file as a function of images, on the CPU.

    Args:
        path: the file.
        kind: of FORMATS.

    Raises:
        ImportError: if onnxruntime is needed and not installed.
    """
    if kind == "onnx":
        return _run_onnx(path)
    loaded: Any = torch.jit.load(path) if kind == "torchscript" else torch.export.load(path)
    module = loaded if kind == "torchscript" else loaded.module()

    def run(images: Tensor) -> List[Tensor]:
        with torch.no_grad():
            return list(module(images))

    return run


def _run_onnx(path: str) -> Runner:
    require_packages(["onnxruntime"], "running an ONNX file")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> List[Tensor]:
        return [torch.from_numpy(values) for values in session.run(None, {INPUT: images.numpy()})]

    return run


def compare(
    model: ImageModel, runner: Runner, shapes: Sequence[Tuple[int, ...]]
) -> List[Agreement]:
    """
    Run file and model on random images.

    Args:
        model: the eager module.
        runner: of its file, see :func:`run_file`.
        shapes: (N, C, H, W) each.
    """
    generator = torch.Generator().manual_seed(0)
    agreements = []
    for shape in shapes:
        images = smooth_images(shape, generator)
        try:
            found = runner(images)
        except Exception as error:  # Runtimes raise what they like.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"the exported file does not run and was not written: images of {tuple(shape)} "
                f"give {reason}"
            ) from error
        agreements.append(_agree(tuple(shape), found, expected_outputs(model, images)))
    return agreements


def expected_outputs(model: ImageModel, images: Tensor) -> List[Tensor]:
    """What a file must give: panoptic labels are those of the model's own inference."""
    with torch.no_grad():
        expected = dict(zip(model.names, model(images)))
        if "panoptic_map" in expected:
            expected["panoptic_map"] = model.panoptic_labels(images)
    return list(expected.values())


def smooth_images(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random images (N, C, H, W), 0 to 255, of blobs some eight pixels wide."""
    num_images, channels, height, width = shape
    coarse = torch.rand(num_images, channels, height // 8 + 2, width // 8 + 2, generator=generator)
    return torch.nn.functional.interpolate(coarse * 255, (height, width), mode="bicubic").clamp(
        0.0, 255.0
    )


def _agree(
    shape: Tuple[int, ...], found: Sequence[Tensor], expected: Sequence[Tensor]
) -> Agreement:
    totals: Dict[str, Any] = {"largest": 0.0, "labels": 0, "different": 0}
    for one, other in zip(found, expected):
        if one.shape != other.shape or one.dtype != other.dtype:
            raise RuntimeError(
                f"an output must be {tuple(other.shape)} {other.dtype} for images of {shape}, got "
                f"{tuple(one.shape)} {one.dtype}"
            )
        if one.is_floating_point():
            scale = max(float(other.abs().max()), 1e-6)
            difference = float((one - other).abs().max()) / scale
            totals["largest"] = max(totals["largest"], difference)
        else:
            totals["labels"] += one.numel()
            totals["different"] += int((one != other).sum())
    return Agreement(shape, totals["largest"], totals["labels"], totals["different"])
