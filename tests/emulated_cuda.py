"""
The CUDA kernels, compiled for the CPU: their logic runs where there is no GPU.

The sources are rewritten a little (launches; the namespace they register in) and compiled with
ops/emulation/cuda_on_cpu.h, which says what this shows and what it cannot. The library is kept in
build/, by a hash of all it is made from.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, List

import cuda_compiler
import torch
from filelock import FileLock
from torch.utils.cpp_extension import include_paths, library_paths

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "projects" / "deeplab2_d2" / "ops" / "csrc"
EMULATION = Path(__file__).parent / "ops" / "emulation"
NAMESPACE = "deeplab2_d2_emulated"
FLAGS = ["-O1", "-g0", "-std=c++17", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-w"]

# Of a launch `name<type><<<grid, threads, shared, stream>>>(`, the name with its type, the rest.
_LAUNCH = re.compile(r"(\w+(?:<[\w:, ]+>)?)\s*<<<(.*?)>>>\(", re.DOTALL)
_DYNAMIC_SHARED = re.compile(r"extern __shared__ (.+?) (\w+)\[\];")


def rewrite(text: str) -> str:
    """CUDA C++ as a C++ compiler reads it, once cuda_on_cpu.h is included."""
    text = _LAUNCH.sub(
        r"cuda_on_cpu::launch([&](auto... arguments) { \1(arguments...); }, \2)(", text
    )
    text = _DYNAMIC_SHARED.sub(
        r"auto* \2 = reinterpret_cast<\1*>(cuda_on_cpu::dynamic_shared());", text
    )
    text = re.sub(r"(TORCH_LIBRARY\w*)\(deeplab2_d2\b", rf"\1({NAMESPACE}", text)
    return re.sub(
        rf"TORCH_LIBRARY_IMPL\({NAMESPACE}, CUDA", f"TORCH_LIBRARY_IMPL({NAMESPACE}, CPU", text
    )


def _inputs() -> Dict[Path, str]:
    """Path under the build folder and text of every file that is compiled or included."""
    found: Dict[Path, str] = {}
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in (".h", ".cuh", ".cu") or path.name == "library.cpp":
            suffix = ".cpp" if path.suffix == ".cu" else path.suffix
            found[path.relative_to(SOURCES).with_suffix(suffix)] = rewrite(path.read_text())
    for path in sorted(EMULATION.rglob("*.h")):
        found[Path("emulation") / path.relative_to(EMULATION)] = path.read_text()
    return found


def _run(commands: Iterable[List[str]]) -> None:
    def run(command: List[str]) -> None:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{result.stderr[-4000:]}")

    with ThreadPoolExecutor(cuda_compiler.num_jobs()) as pool:
        list(pool.map(run, commands))


def build() -> Path:
    """Path of the library with all operators that have CUDA kernels, made if it is not there."""
    inputs = _inputs()
    key = hashlib.sha256(repr((FLAGS, torch.__version__, sorted(inputs.items()))).encode())
    folder = ROOT / "build" / "emulated_cuda" / key.hexdigest()[:16]
    library = folder / "emulated.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    # Another process that builds the same is waited for.
    with FileLock(folder / "lock"), tempfile.TemporaryDirectory(dir=folder) as own:
        if not library.exists():
            _compile(inputs, Path(own), Path(own) / library.name)
            (Path(own) / library.name).rename(library)
    return library


def _compile(inputs: Dict[Path, str], folder: Path, library: Path) -> None:
    for path, text in inputs.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    compiler = os.environ.get("CXX", "c++")
    includes = [f"-I{folder / 'emulation'}", *(f"-I{path}" for path in include_paths("cpu"))]
    sources = [path for path in inputs if path.suffix == ".cpp"]
    objects = [folder / path.with_suffix(".o") for path in sources]
    _run(
        [compiler, *FLAGS, *includes, "-c", str(folder / path), "-o", str(target)]
        for path, target in zip(sources, objects)
    )
    libraries = [f"-L{path}" for path in library_paths("cpu")]
    _run(
        [[compiler, "-shared", *map(str, objects), "-o", str(library), *libraries]
         + ["-lc10", "-ltorch_cpu"]]
    )  # fmt: skip
