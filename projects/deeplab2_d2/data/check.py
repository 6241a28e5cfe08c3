"""
Inspect a registered panoptic dataset and print what to mend.

    python -m deeplab2_d2.data.check DATASET

Exits with 1 if there is an error, with 0 if there are at most remarks.
"""

import argparse
import sys
from collections import defaultdict
from typing import Dict, List, Optional, Sequence

from tabulate import tabulate

from ..command import run_command
from .findings import KINDS, DatasetReport, Finding
from .inspection import inspect_dataset
from .user_code import add_register_argument, register_user_modules


def format_report(report: DatasetReport, max_lines: int = 10) -> str:
    """
    The report as text: findings by kind, errors first, then the balance of the classes.

    Args:
        report: of an inspection.
        max_lines: findings of a kind that are written out.

    Returns:
        the text, its last line a summary.
    """
    by_kind: Dict[str, List[Finding]] = defaultdict(list)
    for finding in report.findings:
        by_kind[finding.kind].append(finding)
    lines: List[str] = []
    for kind in sorted(by_kind, key=lambda k: (not KINDS[k].is_error, list(KINDS).index(k))):
        findings = by_kind[kind]
        label = "ERROR" if KINDS[kind].is_error else "remark"
        lines.append(f"{label}: {KINDS[kind].title} ({len(findings)})")
        lines.append(f"  to mend: {KINDS[kind].advice}")
        for finding in findings[:max_lines]:
            detail = f": {finding.detail}" if finding.detail else ""
            lines.append(f"  - {finding.source}{detail}")
        if len(findings) > max_lines:
            lines.append(f"  ... and {len(findings) - max_lines} more (--all prints them)")
        lines.append("")
    lines += [_class_table(report), *_unlabeled(report), "", _summary(report)]
    return "\n".join(lines)


def _unlabeled(report: DatasetReport) -> List[str]:
    """What share of the pixels has no label, and what comes of it."""
    if not report.num_unlabeled:
        return []
    return [
        f"unlabeled: {report.unlabeled_percent:.2f} % of all pixels. Training and scores leave "
        "them out; there, too, the model predicts one of the classes above."
    ]


def _class_table(report: DatasetReport) -> str:
    total = max(sum(report.pixels.values()), 1)
    rows = [
        [
            name,
            "thing" if is_thing else "stuff",
            report.images[name],
            report.segments[name],
            f"{100 * report.pixels[name] / total:.2f}",
        ]
        for name, is_thing in report.class_names.items()
    ]
    return tabulate(rows, headers=["class", "kind", "images", "segments", "% of labeled"])


def _summary(report: DatasetReport) -> str:
    num_remarks = len(report.findings) - report.num_errors
    return (
        f"{report.name}: {report.num_images} images, {report.num_errors} errors, "
        f"{num_remarks} remarks"
    )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(description="Inspect a registered panoptic dataset.")
    parser.add_argument("dataset", metavar="DATASET", help="name of a registered dataset")
    parser.add_argument("--stride", type=int, default=4, help="output stride of the network")
    parser.add_argument("--max-images", type=int, default=None, help="inspect only so many")
    parser.add_argument("--all", action="store_true", help="print every finding")
    add_register_argument(parser)
    return run_command("check", _check, parser.parse_args(arguments), status=2)


def _check(options: argparse.Namespace) -> int:
    register_user_modules(options.register)
    report = inspect_dataset(
        options.dataset, output_stride=options.stride, max_images=options.max_images
    )
    print(format_report(report, max_lines=sys.maxsize if options.all else 10))
    return 1 if report.num_errors else 0


if __name__ == "__main__":
    sys.exit(main())
