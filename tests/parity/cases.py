"""Reading the cases of a golden set from disk, wherever it lies."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

GROUPS = (
    "networks",
    "layers",
    "losses",
    "postprocessing",
    "meta",
    "targets",
    "evaluation",
    "training",
    "crf",
)

# First word of a case's target in the reference, and the group of such cases.
_TARGETS = (
    ("model.layers.", "layers"),
    ("model.decoder.", "layers"),
    ("loss.", "losses"),
    ("post_processor.", "postprocessing"),
    ("data.", "targets"),
    ("evaluation.", "evaluation"),
)
_REFERENCE_PREFIXES = ("out/", "grad/", "after_training/", "raw/", "resized/", "full/", "endpoint/")


@dataclass(frozen=True)
class Case:
    """
    One golden case.

    Attributes:
        group: one of ``GROUPS``.
        row: the case's description; of a network with ``variables`` (variables.json).
        arrays: everything that is stored, inputs and references.
        references: what an adapter has to return.
        statistics: of references of which only a part is stored, see :func:`compare`.
    """

    group: str
    row: Dict[str, Any]
    arrays: Mapping[str, np.ndarray]
    references: Mapping[str, np.ndarray]
    statistics: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        return self.row["name"]

    @property
    def is_informational(self) -> bool:
        """Whether the reference's own result is not specified."""
        return "informational" in self.row.get("note", "")


def read_cases(path: str) -> List[Case]:
    """
    The cases that a path names.

    Args:
        path: folder of one network case (``case.json``), of a group (``cases.json``) or of several
            network cases; ``FOLDER:NAME`` is one case of it.

    Raises:
        ValueError: if there is no such folder or case.
    """
    folder, name = _split(path)
    cases = list(_read_folder(folder, name))
    if not cases:
        raise ValueError(f"PATH must hold {'case ' + name if name else 'cases'}, got {path}")
    return cases


def _split(path: str) -> Tuple[Path, Optional[str]]:
    folder, name = Path(path), None
    if not folder.exists() and ":" in path:
        text, name = path.rsplit(":", 1)
        folder = Path(text)
    if not folder.is_dir():
        raise ValueError(
            f"PATH must be a folder, or a folder and a case as FOLDER:NAME, got {path}"
        )
    return folder, name


def _read_folder(folder: Path, name: Optional[str]) -> Iterator[Case]:
    if (folder / "case.json").is_file():
        case = _read_network(folder)
        if name in (None, case.name):
            yield case
    elif (folder / "cases.json").is_file():
        for row in json.loads((folder / "cases.json").read_text()):
            if name in (None, row["name"]):
                yield _read_row(folder, row)
    else:
        for file in sorted(folder.glob("*/case.json")):
            if name in (None, file.parent.name):
                yield _read_network(file.parent)


def _read_network(folder: Path) -> Case:
    row = json.loads((folder / "case.json").read_text())
    row["variables"] = json.loads((folder / "variables.json").read_text())
    arrays = _read_arrays(folder / "outputs.npz")
    statistics = {output["name"]: output for output in row.get("outputs", [])}
    for endpoint in row.get("endpoints", []):
        statistics["endpoint/" + endpoint["name"]] = endpoint
    return Case("networks", row, arrays, _references(arrays), statistics)


def _read_row(folder: Path, row: Dict[str, Any]) -> Case:
    group = _group(folder, row)
    file = folder / f"{row['name']}.npz"
    arrays = _read_arrays(file) if file.is_file() else {}
    references = _references(arrays)
    if group == "evaluation":
        references = {name: np.asarray(value, float) for name, value in row["result"].items()}
    if group == "crf":
        return Case(group, row, arrays, *_approximations(row, references))
    if "out/square" in references and "out/nonsquare" in references:
        shape = references["out/nonsquare"].shape[1:]
        references["out/square"] = _order_padding(references["out/square"], *shape)
    return Case(group, row, arrays, references, {})


def _approximations(row: Mapping[str, Any], exact: Dict[str, np.ndarray]) -> Tuple[Any, Any]:
    """References and statistics: an approximation is held against what it approximates."""
    references, statistics = dict(exact), {}
    for name, distance in row["distance_from_exact"].items():
        target = "out/exact_" + name.rpartition("_")[2]
        if name.startswith("permutohedral/") and target in exact:
            references[name], statistics[name] = exact[target], distance
    return references, statistics


def _order_padding(permutations: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """
    Permutation matrices whose padded rows or columns are matched in ascending order.

    Padding costs the same everywhere, so the set does not specify who is matched to it.
    """
    ordered = permutations.copy()
    for matrix in ordered:
        if num_rows < num_columns:
            matrix[num_rows:] = matrix[num_rows:][np.argsort(matrix[num_rows:].argmax(1))]
        elif num_columns < num_rows:
            padding = matrix[:, num_columns:]
            matrix[:, num_columns:] = padding[:, np.argsort(padding.argmax(0))]
    return ordered


def _group(folder: Path, row: Mapping[str, Any]) -> str:
    target = row.get("target", "")
    for prefix, group in _TARGETS:
        if target.startswith(prefix):
            return group
    if "distance_from_exact" in row:
        return "crf"
    if "solver_options" in row:
        return "training"
    if folder.name in GROUPS:
        return folder.name
    if "config" in row:
        return "meta"
    return "layers"


def _read_arrays(file: Path) -> Dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _references(arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    # ``out_op/`` is another implementation of the reference, which numbers instances otherwise.
    return {
        name: array
        for name, array in arrays.items()
        if name == "out" or name.startswith(_REFERENCE_PREFIXES)
    }
