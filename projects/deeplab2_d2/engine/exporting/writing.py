"""From a config and weights to a file that was run and compared."""

import os
from dataclasses import dataclass
from typing import List, Tuple

import torch
from detectron2.config import CfgNode

from ...structures import write_json
from ..config_error import ConfigError
from ..testing import load_model
from .comparison import Agreement, compare, run_file
from .description import describe, to_text
from .formats import FORMATS, require_packages, write
from .image_model import ImageModel

# Raw maps of one network in two runtimes, over their largest value: float32 sums of thousands of
# terms in another order are within 1e-4, a wrong padding or resizing is beyond 1e-2.
MAX_DIFFERENCE = 1e-3
# Labels that rounding of the maps may decide otherwise; with a wrong stride most would differ.
MAX_DIFFERENT_LABELS = 0.02


@dataclass(frozen=True)
class ExportOptions:
    """
    Attributes:
        kind: of FORMATS.
        output: the file.
        with_postprocessing: labels come out, not raw maps.
        allow_random_weights: see :func:`load_model`.
    """

    kind: str
    output: str
    with_postprocessing: bool = False
    allow_random_weights: bool = False


def export(cfg: CfgNode, options: ExportOptions, weights: str = "") -> List[Agreement]:
    """
    Write the file, and a JSON of its description beside it.

    The file becomes ``options.output`` after it was run on images of three sizes, one or two at a
    time, and gave what the model gives.

    Args:
        cfg: the model's config.
        options: what is written.
        weights: "" = MODEL.WEIGHTS.

    Returns:
        What was compared.

    Raises:
        ConfigError: if the model cannot be exported so, or the file gives something else.
        ImportError: if a package is missing.
    """
    if options.kind == "onnx":
        require_packages(["onnx", "onnxruntime"], "--format onnx")
    model = build_image_model(cfg, options, weights)
    description = describe(cfg, model)
    example = example_images(model)
    text = to_text(description)
    with write(options.output, options.kind, model, example, text) as temporary:
        agreements = compare(model, run_file(temporary, options.kind), check_shapes(model))
        for agreement in agreements:
            _check(agreement, options.kind)
    write_json(os.path.splitext(options.output)[0] + ".json", description, indent=1)
    return agreements


def build_image_model(cfg: CfgNode, options: ExportOptions, weights: str = "") -> ImageModel:
    """The module that is exported, with its weights, on the CPU."""
    if options.kind not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, got {options.kind!r}")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    loaded = load_model(cfg, weights, allow_random_weights=options.allow_random_weights)
    for parameter in loaded.parameters():
        parameter.requires_grad_(False)
    model = ImageModel.from_config(cfg, loaded, with_postprocessing=options.with_postprocessing)
    return model.eval()


def example_images(model: ImageModel) -> torch.Tensor:
    """Two images, of sides that are no 1 + multiple of a stride and share no number with others."""
    height, width = (model.stride * times + rest for times, rest in ((9, 6), (13, 9)))
    return torch.zeros(2, model.num_channels, height, width)


def check_shapes(model: ImageModel) -> List[Tuple[int, ...]]:
    """Three sizes, smaller and larger than the example, on the grid and off it."""
    stride = model.stride
    sizes = ((5 * stride + 1, 7 * stride + 1), (3 * stride + 7, 11 * stride), (10 * stride, 40))
    return [(number, model.num_channels, *size) for size, number in zip(sizes, (2, 1, 2))]


def _check(agreement: Agreement, kind: str) -> None:
    num_most = MAX_DIFFERENT_LABELS * agreement.num_labels
    if agreement.largest_difference <= MAX_DIFFERENCE and agreement.num_different <= num_most:
        return
    raise ConfigError(
        f"--format {kind} gives something else than the model and was not written: for images of "
        f"{agreement}"
    )


def file_size(path: str) -> float:
    """Of a file, in MB."""
    return os.path.getsize(path) / 1e6
