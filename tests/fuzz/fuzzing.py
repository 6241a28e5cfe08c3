"""
Readers are given files that are wrong, and must end well.

That is: what they read, or an error that names the file (``ValueError`` or ``OSError``), in less
than ten seconds and 256 MiB. Anything else is a finding: another error, a process that dies.
"""

import contextlib
import io
import logging
import resource
import shutil
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

from edits import Edit
from hypothesis import strategies as st

SEEDS = Path(__file__).parent / "seeds"
MAX_SECONDS, MAX_MIB = 10.0, 256


class Finding(AssertionError):
    """What a reader must not do."""


@dataclass
class Target:
    """
    A reader, and files that it reads.

    Args:
        read: reads the files of a folder.
        edits: file of the target's seeds to what is done to it.
        names_file: errors must say which file is wrong.
        counts: how many examples ended in what.
    """

    read: Callable[[Path], Any]
    edits: Mapping[str, Edit]
    names_file: bool = True
    counts: Dict[str, int] = field(default_factory=lambda: {"read": 0, "refused": 0})

    def examples(self, name: str) -> "st.SearchStrategy[Any]":
        """Pairs of a file's name and its changed content, of the seeds of that name."""
        return st.one_of(
            *(
                st.tuples(st.just(file), edit((SEEDS / name / file).read_bytes()))
                for file, edit in self.edits.items()
            )
        )


def prepare(name: str, folder: Path) -> Path:
    """The folder with the files of a target's seeds, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SEEDS / name, folder)
    return folder


def try_example(target: Target, folder: Path, name: str, content: bytes) -> None:
    """
    Read a folder with one changed file, which is put back when all went well.

    Raises:
        Finding: naming what happened.
    """
    seed = (folder / name).read_bytes()
    (folder / name).write_bytes(content)
    start, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = "read"
    try:
        with _silence():
            target.read(folder)
    except (ValueError, OSError) as error:
        outcome = "refused"
        if target.names_file and folder.name not in str(error):
            raise Finding(f"the error names no file: {type(error).__name__}: {error}") from error
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}") from error
    seconds = time.monotonic() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) >> 10
    if seconds > MAX_SECONDS or grown > MAX_MIB:
        raise Finding(f"{seconds:.1f} s, {grown} MiB")
    target.counts[outcome] += 1
    (folder / name).write_bytes(seed)


@contextlib.contextmanager
def _silence() -> Any:
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
