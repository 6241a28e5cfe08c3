#!/usr/bin/env python
"""
Compile every CUDA source, so that none rots between runs on a GPU.

Needs nvcc and a PyTorch with CUDA, but no GPU. Objects are kept in build/, by a hash of the source,
all headers, the command and the compiler's version: what has not changed is not compiled again.
The tests compile what runs on a GPU alone: the other half is compiled for the emulation, too. They
compile all sources as one, which reads PyTorch's headers, most of the time, once; the emulation
compiles each with the headers that it names. By hand, `python tests/cuda_compiler.py` compiles each
source whole.
"""

import hashlib
import os
import re
import runpy
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence
from unittest import mock

import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "projects" / "deeplab2_d2" / "ops" / "csrc"
OBJECTS = ROOT / "build" / "cuda_objects"


def build_script() -> Dict[str, Any]:
    """What setup.py defines: the flags and folders are those of the real build."""
    with mock.patch("setuptools.setup"):
        return runpy.run_path(str(ROOT / "setup.py"))


def why_not() -> Optional[str]:
    """Why CUDA sources cannot be compiled here; None if they can."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA: its CUDA headers are missing"
    if build_script()["cuda_toolkit"]() is None:
        return "no nvcc with its headers: none at $CUDA_HOME, on the PATH or in /usr/local/cuda"
    return None


def num_jobs() -> int:
    """Compilers that run at a time: $MAX_JOBS, as for the build, or one a processor."""
    return int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)


def sources() -> List[Path]:
    return sorted(SOURCES.rglob("*.cu"))


def join(sources: Sequence[Path], folder: Path) -> Path:
    """
    A source that includes others, each from a copy of the folder above its own.

    A copy's own names are in a namespace of its own: two sources may use one name.
    """
    for source in sources:
        root = source.parents[1]
        for path in root.rglob("*"):
            if path == source or path.suffix in (".h", ".cuh"):
                copy = folder / source.stem / path.relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(re.sub(r"\bdeeplab2_d2\b", f"of_{source.stem}", path.read_text()))
    copies = [Path(source.stem) / source.relative_to(source.parents[1]) for source in sources]
    joined = folder / "joined.cu"
    joined.write_text("".join(f'#include "{copy}"\n' for copy in copies))
    return joined


class Compiler:
    """
    nvcc with the flags of the build, for the first architecture of TORCH_CUDA_ARCH_LIST.

    Args:
        objects: folder of what is compiled.
        device_only: leave out what runs on the CPU, two thirds of the time.
    """

    def __init__(self, objects: Path = OBJECTS, device_only: bool = False):
        script = build_script()
        self.objects = objects
        toolkit = script["cuda_toolkit"]()
        cpp_extension.CUDA_HOME = str(toolkit)
        wanted = os.environ.get("TORCH_CUDA_ARCH_LIST", "9.0")
        number = "".join(re.findall(r"\d+", re.split("[ ;]", wanted)[0]))
        folders = [*cpp_extension.include_paths("cuda"), *script["wheel_include_dirs"]()]
        self.command = [str(toolkit / "bin" / "nvcc"), "-cubin" if device_only else "-c"]
        self.command += [f"-gencode=arch=compute_{number},code=sm_{number}"]
        self.command += [*cpp_extension.COMMON_NVCC_FLAGS, *script["NVCC_FLAGS"]]
        self.command += ["--compiler-options", "-fPIC", *(f"-I{folder}" for folder in folders)]
        version = subprocess.run([self.command[0], "--version"], capture_output=True, text=True)
        headers = [path for path in sorted(SOURCES.rglob("*")) if path.suffix in (".h", ".cuh")]
        contents = [(path.name, path.read_bytes()) for path in headers]
        self._key = repr((self.command, version.stdout, torch.__version__, contents))

    def object_of(self, source: Path) -> Path:
        key = hashlib.sha256(self._key.encode() + source.read_bytes()).hexdigest()[:16]
        return self.objects / f"{source.stem}-{key}.o"

    def compile(self, source: Path) -> Optional[str]:
        """What nvcc says against a source; None if nothing, now or when the object was made."""
        return self._compile(source, self.object_of(source))

    def compile_as_one(self, sources: Sequence[Path]) -> Dict[Path, Optional[str]]:
        """What nvcc says against each, which is compiled alone only if all as one are not."""
        contents = b"".join(source.read_bytes() for source in sources)
        key = hashlib.sha256(self._key.encode() + contents).hexdigest()[:16]
        with tempfile.TemporaryDirectory() as folder:
            joined = join(sources, Path(folder))
            if self._compile(joined, self.objects / f"{joined.stem}-{key}.o") is None:
                return dict.fromkeys(sources)
        return self.compile_all(sources)

    def compile_all(self, sources: Sequence[Path]) -> Dict[Path, Optional[str]]:
        with ThreadPoolExecutor(num_jobs()) as pool:
            return dict(zip(sources, pool.map(self.compile, sources)))

    def _compile(self, source: Path, target: Path) -> Optional[str]:
        if target.exists():
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{os.getpid()}-{target.name}")
        result = subprocess.run(
            [*self.command, str(source), "-o", str(partial)], capture_output=True, text=True
        )
        if result.returncode != 0:
            return result.stdout + result.stderr
        for outdated in target.parent.glob(f"{source.stem}-*.o"):
            outdated.unlink(missing_ok=True)
        partial.rename(target)
        return None


if __name__ == "__main__":
    reason = why_not()
    if reason is not None:
        sys.exit(f"CUDA sources are not compiled: {reason}")
    errors = {
        path: error
        for path, error in Compiler().compile_all(sources()).items()
        if error is not None
    }
    for path, error in errors.items():
        print(f"{path}:\n{error}", file=sys.stderr)
    sys.exit(1 if errors else 0)
