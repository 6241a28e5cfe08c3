"""Names of files that are written, one for each input."""

import os
from typing import Dict, Iterable


def stem_of(file_name: str) -> str:
    """The name of a file without its folder and its ending."""
    return os.path.splitext(os.path.basename(file_name))[0]


def check_output_name(name: str, owner: str) -> None:
    """
    Check that a name that is made of an input's stays in the folder that is written to.

    Args:
        name: of the output, relative to the folder.
        owner: the input, for errors.

    Raises:
        ValueError: if it is absolute, leads up (``..``), has characters that cannot be printed
            (line breaks, NUL), or is empty.
    """
    parts = name.replace("\\", "/").split("/")
    if not name.isprintable() or not parts[0] or ".." in parts:
        raise ValueError(
            "names of images and sequences must lead to a file in the folder that is written to, "
            f"in characters that can be printed, got {owner!r} with the output {name!r}"
        )


def claim_output(owners: Dict[str, str], output: str, owner: str, kind: str = "the output") -> None:
    """
    Note whose output a file is.

    Args:
        owners: who has which output, by its name without case; one is added.
        output: name of the file.
        owner: the input, for errors.
        kind: what the output is, for errors.

    Raises:
        ValueError: naming both, if another has it, also where file names know no case; or see
            :func:`check_output_name`.
    """
    check_output_name(output, owner)
    key = output.casefold()
    if key in owners:
        raise ValueError(
            "images must differ in the names of their outputs, in more than case, got "
            f"{owners[key]} and {owner}: both would have {kind} {output}"
        )
    owners[key] = owner


def check_not_inputs(outputs: Iterable[str], inputs: Iterable[str]) -> None:
    """
    Args:
        outputs: paths that are to be written.
        inputs: paths that are read.

    Raises:
        ValueError: naming the file, if an input would be written over.
    """
    read = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise ValueError(
                f"outputs must not be written over inputs, but {path} is one; choose another folder"
            )


def check_distinct_stems(file_names: Iterable[str]) -> None:
    """
    Check that files which are named after these inputs, without folder and ending, are distinct.

    Raises:
        ValueError: see :func:`claim_output`.
    """
    owners: Dict[str, str] = {}
    for file_name in file_names:
        claim_output(owners, stem_of(file_name), file_name)
