"""The races that emulated CUDA kernels have while they are watched (ops/emulation)."""

import ctypes
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Sequence, Set


@dataclass(frozen=True)
class Use:
    """
    Attributes:
        kind: load, store, volatile load or atomic.
        place: file and line of the kernel's source.
    """

    kind: str
    block: int
    thread: int
    place: str

    def __str__(self) -> str:
        return f"{self.kind} by thread {self.thread} of block {self.block} at {self.place}"


@dataclass(frozen=True)
class Race:
    """
    Attributes:
        memory: of the block ("shared", the variable's name, the byte), or global.
        uses: the two that nothing orders; or a single one, of shared memory without a value.
    """

    kernel: str
    memory: str
    uses: Sequence[Use]

    def __str__(self) -> str:
        what = "; ".join(map(str, self.uses))
        return (
            f"{self.kernel}: {self.memory}{'' if len(self.uses) > 1 else ' has no value'}: {what}"
        )


@dataclass
class Seen:
    """
    Attributes:
        races: one for each two places in a kernel's code.
        kernels: names of those that ran.
    """

    races: List[Race] = field(default_factory=list)
    kernels: Set[str] = field(default_factory=set)


@contextmanager
def watch(library: Path) -> Iterator[Seen]:
    """What is filled in afterwards; the library's kernels run slower meanwhile."""
    functions = ctypes.CDLL(str(library))
    functions.cuda_on_cpu_reports.restype = ctypes.c_char_p
    functions.cuda_on_cpu_launched.restype = ctypes.c_char_p
    seen = Seen()
    functions.cuda_on_cpu_watch(1)
    try:
        yield seen
    finally:
        text = functions.cuda_on_cpu_reports().decode()
        seen.kernels.update(functions.cuda_on_cpu_launched().decode().split())
        functions.cuda_on_cpu_watch(0)
        seen.races += _read(library, text)


def _read(library: Path, text: str) -> List[Race]:
    races = []
    for line in text.splitlines():
        kernel, memory, *rest = line.split("\t")
        uses = [
            Use(kind, int(block), int(thread), _place(library, int(code)))
            for kind, block, thread, code in zip(*(iter(rest),) * 4)
        ]
        races.append(Race(kernel, memory, uses))
    return races


def _place(library: Path, code: int) -> str:
    """Of the functions that are inlined there, the innermost of the kernel's own source."""
    command = ["addr2line", "-i", "-e", str(library), hex(code)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    places = [os.path.normpath(line.split(" ")[0]) for line in lines if line.startswith("./")]
    own = [place for place in places if not place.startswith("emulation/")]
    return own[0] if own else "an unknown place"
