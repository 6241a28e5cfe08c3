"""
Curves of one or several trainings, laid over each other.

    python -m deeplab2_d2.visualization.curves RUN/metrics.json ... --output curves.png [--key NAME]
"""

import argparse
import json
from typing import Dict, Sequence


def read_curve(path: str, key: str) -> Dict[int, float]:
    """
    A scalar of ``metrics.json`` by iteration; of one that was logged twice, the later.

    Args:
        path: written by a training.
        key: such as "total_loss" or "panoptic_seg/PQ".

    Raises:
        ValueError: if no line of the file has the key.
    """
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    curve = {int(row["iteration"]): float(row[key]) for row in rows if key in row}
    if not curve:
        raise ValueError(f"{path} has no {key!r}")
    return curve


def draw_curves(paths: Sequence[str], output: str, *, key: str = "total_loss") -> None:
    """
    Write a picture with a curve for each file, the first wide and pale, the others thin.

    Args:
        paths: of ``metrics.json`` files.
        output: picture, its format by the ending.
        key: see :func:`read_curve`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="tight")
    axes = figure.subplots()
    for index, path in enumerate(paths):
        curve = sorted(read_curve(path, key).items())
        width, alpha = (6, 0.4) if index == 0 else (1.5, 1.0)
        axes.plot(*zip(*curve), linewidth=width, alpha=alpha, label=path)
    axes.set_xlabel("iteration")
    axes.set_ylabel(key)
    axes.legend()
    figure.savefig(output)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("metrics", nargs="+", help="metrics.json files")
    parser.add_argument("--output", required=True, help="picture to write")
    parser.add_argument("--key", default="total_loss", help="scalar to draw")
    args = parser.parse_args()
    draw_curves(args.metrics, args.output, key=args.key)


if __name__ == "__main__":
    main()
