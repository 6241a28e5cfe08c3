"""
The CUDA kernels, compiled for the CPU: their logic runs where there is no GPU.

The sources are rewritten a little (launches, shared memory, the namespace they register in) and
compiled with ops/emulation/cuda_on_cpu.h, which says what this shows and what it cannot. A load or
store in them calls what ops/emulation has in place of the thread sanitizer, so that races are seen
(kernel_races.py). Libraries are kept in build/, by a hash of all they are made from.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Sequence

import cuda_compiler
import torch
from filelock import FileLock
from torch.utils.cpp_extension import include_paths, library_paths

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "projects" / "deeplab2_d2" / "ops" / "csrc"
EMULATION = Path(__file__).parent / "ops" / "emulation"
NAMESPACE = "deeplab2_d2_emulated"
FLAGS = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-w"]
# Optimized so little that no load or store moves to where the source has none, and none is lost;
# every one is announced, volatile ones as such. Lines are known. Options of GCC.
WATCHED = ["-Og", "-g1", "-fsanitize=thread"]
WATCHED += [
    "--param",
    "tsan-distinguish-volatile=1",
    "--param",
    "tsan-instrument-func-entry-exit=0",
]

# Precompiling PyTorch's header takes as long as four sources save.
WORTH_PRECOMPILING = 5

# Of a launch `name<type><<<grid, threads, shared, stream>>>(`, the name, its type, the space before
# the rest, and the rest.
_LAUNCH = re.compile(r"(\w+)(<[\w:, ]+>)?(\s*)<<<(.*?)>>>\(", re.DOTALL)
_DYNAMIC_SHARED = re.compile(r"extern __shared__ (.+?) (\w+)\[\];")
_SHARED = re.compile(r"__shared__ ([^,;]+?) (\w+)((?:\[[^\]]*\])*);")


def rewrite(text: str) -> str:
    """CUDA C++ as a C++ compiler reads it, line by line, once cuda_on_cpu.h is included."""
    text = _LAUNCH.sub(
        r'cuda_on_cpu::launch("\1", [&](auto... arguments) { \1\2(arguments...); },\3\4)(', text
    )
    text = _DYNAMIC_SHARED.sub(
        r'auto* \2 = reinterpret_cast<\1*>(cuda_on_cpu::dynamic_shared("\2"));', text
    )
    text = _SHARED.sub(r'static \1 \2\3; cuda_on_cpu::declare_shared("\2", &\2, sizeof(\2));', text)
    text = re.sub(r"(TORCH_LIBRARY\w*)\(deeplab2_d2\b", rf"\1({NAMESPACE}", text)
    return re.sub(
        rf"TORCH_LIBRARY_IMPL\({NAMESPACE}, CUDA", f"TORCH_LIBRARY_IMPL({NAMESPACE}, CPU", text
    )


def _emulation() -> Dict[Path, str]:
    paths = [path for path in sorted(EMULATION.rglob("*")) if path.suffix in (".h", ".cpp")]
    return {Path("emulation") / path.relative_to(EMULATION): path.read_text() for path in paths}


def build() -> Path:
    """Path of the library with all operators that have CUDA kernels, made if it is not there."""
    inputs = {}
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in (".h", ".cuh", ".cu") or path.name == "library.cpp":
            inputs[path.relative_to(SOURCES)] = rewrite(path.read_text())
    includes = [f"-I{path}" for path in include_paths("cpu")]
    libraries = [f"-L{path}" for path in library_paths("cpu")] + ["-lc10", "-ltorch_cpu"]
    return _build(inputs, includes, libraries)


def build_alone(source: Path) -> Path:
    """Path of the library of one CUDA source that needs no PyTorch, made if it is not there."""
    return _build({Path(source.name): rewrite(source.read_text())}, [], [])


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr((FLAGS, torch.__version__, parts)).encode()).hexdigest()[:16]


def _build(inputs: Dict[Path, str], includes: Sequence[str], libraries: Sequence[str]) -> Path:
    inputs = {**inputs, **_emulation()}
    folder = ROOT / "build" / "emulated_cuda"
    library = folder / f"{_hash(WATCHED, sorted(inputs.items()))}.so"
    if library.exists():
        return library
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    # Another process that builds the same is waited for.
    with FileLock(f"{library}.lock"), tempfile.TemporaryDirectory(dir=folder) as own:
        if not library.exists():
            for path, text in inputs.items():
                (Path(own) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(own) / path).write_text(text)
            sources = [path for path in inputs if path.suffix in (".cpp", ".cu")]
            objects = {path: folder / "objects" / _object(path, inputs) for path in sources}
            _make(objects, Path(own), includes)
            partial = Path(own) / library.name
            files = map(str, [*objects.values(), "-o", partial])
            _run([_compiler(), *FLAGS, "-shared", *files, *libraries, "-ldl"], Path(own))
            partial.rename(library)
    return library


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


def _run(command: List[str], folder: Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stderr[-4000:]}")


def _make(objects: Dict[Path, Path], folder: Path, includes: Sequence[str]) -> None:
    """Compile the sources whose objects are not there: those that are changed, or include such."""
    missing = [source for source, target in objects.items() if not target.exists()]
    if includes and len(missing) >= WORTH_PRECOMPILING:
        includes = [*includes, "-include", _precompile(folder, includes)]
    with ThreadPoolExecutor(cuda_compiler.num_jobs()) as pool:
        list(pool.map(lambda path: _compile(path, objects[path], folder, includes), missing))


def _precompile(folder: Path, includes: Sequence[str]) -> str:
    """What every operator's source includes, read once: a header beside which GCC looks for it."""
    name = "precompiled.h"
    (folder / name).write_text("#include <torch/library.h>\n")
    file = ["-x", "c++-header", "-c", name, "-o", f"{name}.gch"]
    _run([_compiler(), *FLAGS, *WATCHED, *includes, *file], folder)
    return name


def _is_emulation(path: Path) -> bool:
    return path.parts[0] == "emulation"


def _flags(source: Path) -> List[str]:
    return ["-O2"] if _is_emulation(source) else WATCHED


def _object(source: Path, inputs: Dict[Path, str]) -> str:
    """Name of the object of a source, another for a source or header that is changed."""
    headers = {
        path: text for path, text in sorted(inputs.items())
        if path.suffix in (".h", ".cuh") and (_is_emulation(path) or not _is_emulation(source))
    }  # fmt: skip
    return f"{_hash(_flags(source), source, inputs[source], headers)}.o"


def _compile(source: Path, target: Path, folder: Path, includes: Sequence[str]) -> None:
    # Places in the code are paths under the folder.
    options = [*_flags(source), "-Iemulation", f"-fdebug-prefix-map={folder}=."]
    options += [] if _is_emulation(source) else includes
    partial = folder / f"{source}.o"
    file = ["-x", "c++", "-c", str(source), "-o", str(partial)]
    _run([_compiler(), *FLAGS, *options, *file], folder)
    partial.rename(target)
