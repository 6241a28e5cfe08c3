"""Which modules a source file imports, found in its syntax tree."""

import ast
from pathlib import Path
from typing import List, Set, Tuple

Module = Tuple[str, ...]


def imported_modules(path: Path, package: Path) -> Set[Module]:
    """
    Modules and names that a file imports, at its top or inside a function.

    Args:
        path: of the file.
        package: folder ``deeplab2_d2`` that the file is in; of a file elsewhere only absolute
            imports are resolved.

    Returns:
        Full dotted paths, split: ``from ..heads import Decoder`` in a room is
        ``("deeplab2_d2", "heads", "Decoder")``.
    """
    parts: Module = ()
    if package in path.parents:
        parts = ("deeplab2_d2",) + path.relative_to(package).parts[:-1]
    modules: List[Module] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            modules += [base + (alias.name,) for alias in node.names]
    return set(modules)
