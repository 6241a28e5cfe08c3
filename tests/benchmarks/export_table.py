"""
How ONNX files agree with the models they were made from: the table of docs/export.md.

    PYTHONPATH=projects python tests/benchmarks/export_table.py [--full]

Models have random weights, norms with the statistics of random images, and last layers that make
labels of many kinds. ``--full`` runs a ResNet-50 Panoptic-DeepLab in place of narrow networks.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import exported_models  # noqa: E402

from deeplab2_d2.engine.exporting import (  # noqa: E402
    ImageModel,
    comparison,
    formats,
    run_file,
    writing,
)

FULL = (
    "Panoptic-DeepLab, ResNet-50",
    "Cityscapes-PanopticSegmentation/panoptic_deeplab_R_50_os32_poly_60k_bs8_crop_1025_2049.yaml",
)
FULL_SHAPES = ((2, 3, 193, 257), (1, 3, 257, 513), (1, 3, 513, 1025), (1, 3, 1025, 2049))
SHAPES = ((2, 3, 81, 113), (1, 3, 129, 161), (2, 3, 160, 240))


def rows(title: str, model: Any, shapes: Any, folder: str) -> Iterator[List[str]]:
    """A row of the table for each shape."""
    network, labelling = (
        ImageModel(model, is_bgr=False, with_postprocessing=post).eval() for post in (False, True)
    )
    runners = []
    for name, exported in (("network", network), ("labels", labelling)):
        path = os.path.join(folder, f"{name}.onnx")
        formats.write_onnx(path, exported, writing.example_images(exported), "{}")
        runners.append(run_file(path, "onnx"))
    for shape in shapes:
        yield [title, *_row(network, labelling, runners, shape)]


def _row(network: ImageModel, labelling: ImageModel, runners: Any, shape: Any) -> List[str]:
    images = comparison.smooth_images(shape, torch.Generator().manual_seed(sum(shape)))
    with torch.no_grad():
        maps = dict(zip(network.names, network(images)))
    raw = dict(zip(network.names, runners[0](images)))
    errors = {name: float((raw[name] - maps[name]).abs().max()) for name in raw}
    relative = max(errors[name] / float(maps[name].abs().max()) for name in errors)
    near = exported_models.near_ties(network, maps, raw, shape[2:])
    expected, eager_time = _timed(lambda: comparison.expected_outputs(labelling, images))
    found, onnx_time = _timed(lambda: runners[1](images))
    different = torch.stack([a != b for a, b in zip(found, expected)]).any(0)
    return [
        " x ".join(map(str, shape)),
        f"{max(errors.values()):.1e} ({relative:.1e})",
        str(len(expected[0].unique())),
        f"{int(different.sum())} of {different.numel()}",
        str(int((different & near).sum())),
        str(int((different & ~near & _has_other_number(expected[0], found[0])).sum())),
        f"{onnx_time:.2f} s",
        f"{eager_time:.2f} s",
    ]


def _has_other_number(expected: Tensor, found: Tensor) -> Tensor:
    """
    Where a segment has another label as a whole: (N, H, W) bool.

    Instances are numbered by their first pixels, so that a near tie there renumbers all that follow
    in the class. A label belongs to the one of the file that most of its pixels have, and the other
    way round.
    """
    pairs, counts = torch.stack([expected, found], -1).view(-1, 2).unique(dim=0, return_counts=True)
    kept = {}
    for first, second in ((0, 1), (1, 0)):
        best: Dict[int, Tuple[int, int]] = {}
        for pair, count in zip(pairs.tolist(), counts.tolist()):
            best[pair[first]] = max(best.get(pair[first], (0, 0)), (count, pair[second]))
        kept[first] = {label: other for label, (_, other) in best.items()}
    is_other = torch.zeros_like(expected, dtype=torch.bool)
    for label, other in kept[0].items():
        if other != label and kept[1][other] == label:
            is_other |= (expected == label) & (found == other)
    return is_other


def _timed(function: Any) -> Tuple[Any, float]:
    start = time.process_time()
    return function(), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    is_full = parser.parse_args().full
    configs = dict([FULL]) if is_full else exported_models.NARROW
    print(
        "| model | images | largest difference (relative) | labels | different | near ties |",
        end="",
    )
    print(" renumbered |\n| --- | --- | --- | --- | --- | --- | --- |")
    for title, config in configs.items():
        options = exported_models.NARROW_OPTIONS.get(title, ())
        model = exported_models.lively_model(config, options)
        with tempfile.TemporaryDirectory() as folder:
            for row in rows(title, model, FULL_SHAPES if is_full else SHAPES, folder):
                print("| " + " | ".join(row[:7]) + " |", flush=True)
                print(f"CPU time: file {row[7]}, model and graph {row[8]}", file=sys.stderr)


if __name__ == "__main__":
    main()
