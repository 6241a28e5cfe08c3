"""
Curves of one or several trainings, laid over each other.

    python -m deeplab2_d2.visualization.curves RUN/metrics.json ... --output FILE [--key NAME ...]
"""

import argparse
import json
import sys
from typing import Dict, Sequence

from ..command import run_command
from ..structures import atomic_path, check_not_inputs


def read_curve(path: str, key: str) -> Dict[int, float]:
    """
    A scalar of ``metrics.json`` by iteration; of one that was logged twice, the later.

    Args:
        path: written by a training.
        key: such as "total_loss" or "panoptic_seg/PQ".

    Raises:
        ValueError: if no line of the file has the key, or one is no JSON object with numbers.
    """
    try:
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        curve = {int(row["iteration"]): float(row[key]) for row in rows if key in row}
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} must have a JSON object in each line: {error!r}") from error
    if not curve:
        raise ValueError(f"{path} has no {key!r}")
    return curve


def draw_curves(
    paths: Sequence[str], output: str, *, keys: Sequence[str] = ("total_loss",)
) -> None:
    """
    Write a picture with a curve for each file, the first wide and pale, the others thin.

    Args:
        paths: of ``metrics.json`` files.
        output: picture, its format by the ending.
        keys: see :func:`read_curve`; each has a panel, one above the other.

    Raises:
        ValueError: if there is no key, one of the files is ``output``, or see :func:`read_curve`.
    """
    from matplotlib.figure import Figure

    if not keys:
        raise ValueError("keys must name at least one scalar, got none")
    check_not_inputs([output], paths)
    figure = Figure(figsize=(8, 1 + 3 * len(keys)), layout="tight")
    panels = figure.subplots(len(keys), squeeze=False)[:, 0]
    for axes, key in zip(panels, keys):
        for index, path in enumerate(paths):
            curve = sorted(read_curve(path, key).items())
            width, alpha = (6, 0.4) if index == 0 and len(paths) > 1 else (1.5, 1.0)
            axes.plot(*zip(*curve), linewidth=width, alpha=alpha, label=path)
        axes.set_ylabel(key)
    panels[-1].set_xlabel("iteration")
    if len(paths) > 1:
        panels[0].legend()
    with atomic_path(output) as temporary:
        figure.savefig(temporary)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("metrics", nargs="+", help="metrics.json files")
    parser.add_argument("--output", required=True, help="picture to write")
    parser.add_argument("--key", nargs="+", default=["total_loss"], help="scalars to draw")
    args = parser.parse_args()
    draw_curves(args.metrics, args.output, keys=args.key)


if __name__ == "__main__":
    sys.exit(run_command("curves", main))
