#!/usr/bin/env python
"""The compiled operators; everything else stands in setup.cfg."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from setuptools import setup
from torch.utils import cpp_extension

SOURCES = Path("projects/deeplab2_d2/ops/csrc")
# Integers must not depend on whether a compiler joins a multiplication and an addition.
CXX_FLAGS = ["-O3", "-std=c++17", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
# Without them GCC leaves loops with comparisons of floats alone. They change no number.
CXX_FLAGS += ["-fno-trapping-math", "-fno-math-errno"]
# Without it at::parallel_for is a plain loop. It is no flag of the linker here: PyTorch has loaded
# its own OpenMP by then, and the threads must be those that torch.set_num_threads counts.
CXX_FLAGS += ["-fopenmp"] if torch.backends.openmp.is_available() else []
NVCC_FLAGS = ["-O3", "-std=c++17", "-fmad=false", "-lineinfo"]


def cuda_toolkit() -> Optional[Path]:
    """
    The folder of nvcc and its headers: $CUDA_HOME, that of the nvcc on the PATH, or the usual one.

    The nvcc on the PATH may be a wrapper that lies elsewhere; PyTorch would take its folder for the
    toolkit, and linking would fail.
    """
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    on_path = shutil.which("nvcc")
    folders = [Path(on_path).resolve().parents[1]] if on_path else []
    folders = [Path(named)] if named else [*folders, Path("/usr/local/cuda")]
    for folder in folders:
        if (folder / "bin" / "nvcc").exists() and (folder / "include" / "cuda_runtime.h").exists():
            return folder
    return None


def has_cuda() -> bool:
    """Whether CUDA kernels are built: a CUDA PyTorch, nvcc, and a GPU (or FORCE_CUDA=1)."""
    if os.environ.get("FORCE_CUDA") == "0" or torch.version.cuda is None or cuda_toolkit() is None:
        return False
    return torch.cuda.is_available() or os.environ.get("FORCE_CUDA") == "1"


def architectures() -> Optional[str]:
    """$TORCH_CUDA_ARCH_LIST; without it that of the GPU (None), or of A100 to H100 and later."""
    default = None if torch.cuda.is_available() else "8.0 9.0+PTX"
    return os.environ.get("TORCH_CUDA_ARCH_LIST", default)


def wheel_include_dirs() -> List[str]:
    """Headers of the CUDA libraries that PyTorch's own wheels bring; the toolkit may lack them."""
    folders = Path(torch.__file__).parents[1].glob("nvidia/*/include")
    return [str(folder) for folder in folders]


def extension() -> Any:
    sources = [str(path) for path in sorted(SOURCES.glob("**/*.cpp"))]
    flags: Dict[str, List[str]] = {"cxx": CXX_FLAGS}
    options: Dict[str, Any] = {"extra_compile_args": flags, "extra_link_args": ["-s"]}
    if not has_cuda():
        return cpp_extension.CppExtension("deeplab2_d2.ops._kernels", sources, **options)
    cpp_extension.CUDA_HOME = str(cuda_toolkit())
    wanted = architectures()
    if wanted is not None:
        os.environ["TORCH_CUDA_ARCH_LIST"] = wanted
    sources += [str(path) for path in sorted(SOURCES.glob("**/*.cu"))]
    flags["nvcc"] = NVCC_FLAGS
    flags["cxx"] = [*CXX_FLAGS, f"-DDEEPLAB2_D2_CUDA={torch.version.cuda}"]
    return cpp_extension.CUDAExtension(
        "deeplab2_d2.ops._kernels", sources, include_dirs=wheel_include_dirs(), **options
    )


def has_compiler() -> bool:
    return shutil.which(os.environ.get("CXX", "c++")) is not None


# Ninja compiles on all processors; in an environment that is not activated it is off the PATH.
os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)

if not has_compiler():
    print("deeplab2_d2: no C++ compiler found, the operators are not built", file=sys.stderr)

setup(
    ext_modules=[extension()] if has_compiler() else [],
    cmdclass={
        "build_ext": cpp_extension.BuildExtension.with_options(
            use_ninja=shutil.which("ninja") is not None
        )
    },
)
