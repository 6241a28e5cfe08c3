"""
Check this package against golden numbers of Google's DeepLab2, and of other authors' code.

    python tests/parity/check.py [--require-all] PATH...

A PATH is the folder of a network case, or of a group of cases (layers, losses, postprocessing,
meta, targets, evaluation, training, crf), or such a folder and one case as FOLDER:NAME. Prints a
line for every output: case, output, error, tolerance and ok, FAIL or not ported. Exits with 1 if
one failed, with --require-all also if one is not ported, and with 2 if a PATH holds no cases.
"""

import argparse
import importlib
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Iterable, List, Mapping, Optional

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity.cases import Case, read_cases  # noqa: E402
from parity.comparison import Comparison, compare  # noqa: E402


def check_case(case: Case) -> List[Comparison]:
    """One comparison for every output of a case."""
    outputs, error = _run_adapter(case)
    if error is not None:
        return [Comparison(case.name, name, float("inf"), 0.0, error) for name in case.references]
    return [
        compare(
            case.group,
            case.name,
            name,
            None if outputs is None else outputs.get(name),
            reference,
            case.statistics.get(name),
        )
        for name, reference in case.references.items()
    ]


def _run_adapter(case: Case) -> Any:
    try:
        adapter = importlib.import_module(f"parity.adapters.{case.group}")
    except ModuleNotFoundError as error:
        if error.name != f"parity.adapters.{case.group}":
            raise
        return None, None
    outputs: Optional[Mapping[str, Any]]
    try:
        outputs = adapter.port(case.row, case.arrays)
    except Exception as error:  # Of any kind: the other cases are still to be checked.
        traceback.print_exc()
        return None, f"{type(error).__name__}: {error}".splitlines()[0]
    return outputs, None


def format_comparison(comparison: Comparison) -> str:
    """One line of the report."""
    error = "-" if comparison.error is None else f"{comparison.error:.2e}"
    line = (
        f"{comparison.case:<44} {comparison.output:<36} {error:>9} {comparison.tolerance:>8.1e} "
        f"{comparison.status}"
    )
    return f"{line}  {comparison.note}" if comparison.note else line


def main(arguments: Optional[Iterable[str]] = None) -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(description="Check against golden numbers of DeepLab2.")
    parser.add_argument("--require-all", action="store_true", help="fail if one is not ported")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="folder, or FOLDER:NAME")
    options = parser.parse_args(None if arguments is None else list(arguments))
    counts: Counter = Counter()
    for path in options.paths:
        try:
            cases = read_cases(path)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        for case in cases:
            if case.is_informational:
                print(f"{case.name:<44} informational, not compared: {case.row['note']}")
                continue
            for comparison in check_case(case):
                counts[comparison.status] += 1
                print(format_comparison(comparison), flush=True)
    print(f"{counts['ok']} ok, {counts['FAIL']} failed, {counts['not ported']} not ported")
    return int(counts["FAIL"] > 0 or (options.require_all and counts["not ported"] > 0))


if __name__ == "__main__":
    sys.exit(main())
