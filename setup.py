#!/usr/bin/env python
"""The compiled operators; everything else stands in setup.cfg."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List

import torch
from setuptools import setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

SOURCES = Path("projects/deeplab2_d2/ops/csrc")
# Integers must not depend on whether a compiler joins a multiplication and an addition.
CXX_FLAGS = ["-O3", "-std=c++17", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
# Without them GCC leaves loops with comparisons of floats alone. They change no number.
CXX_FLAGS += ["-fno-trapping-math", "-fno-math-errno"]
NVCC_FLAGS = ["-O3", "-std=c++17", "-fmad=false", "-lineinfo"]


def has_cuda() -> bool:
    """Whether CUDA kernels are built: a CUDA PyTorch, nvcc, and a GPU (or FORCE_CUDA=1)."""
    if os.environ.get("FORCE_CUDA") == "0" or torch.version.cuda is None or CUDA_HOME is None:
        return False
    has_compiler = (Path(CUDA_HOME) / "bin" / "nvcc").exists()
    return has_compiler and (torch.cuda.is_available() or os.environ.get("FORCE_CUDA") == "1")


def wheel_include_dirs() -> List[str]:
    """Headers of the CUDA libraries that PyTorch's own wheels bring; the toolkit may lack them."""
    folders = Path(torch.__file__).parents[1].glob("nvidia/*/include")
    return [str(folder) for folder in folders]


def extension() -> Any:
    sources = [str(path) for path in sorted(SOURCES.glob("**/*.cpp"))]
    flags: Dict[str, List[str]] = {"cxx": CXX_FLAGS}
    options: Dict[str, Any] = {"extra_compile_args": flags, "extra_link_args": ["-s"]}
    if not has_cuda():
        return CppExtension("deeplab2_d2.ops._kernels", sources, **options)
    if "TORCH_CUDA_ARCH_LIST" not in os.environ and not torch.cuda.is_available():
        os.environ["TORCH_CUDA_ARCH_LIST"] = "9.0"
    sources += [str(path) for path in sorted(SOURCES.glob("**/*.cu"))]
    flags["nvcc"] = NVCC_FLAGS
    return CUDAExtension(
        "deeplab2_d2.ops._kernels", sources, include_dirs=wheel_include_dirs(), **options
    )


def has_compiler() -> bool:
    return shutil.which(os.environ.get("CXX", "c++")) is not None


if not has_compiler():
    print("deeplab2_d2: no C++ compiler found, the operators are not built", file=sys.stderr)

setup(
    ext_modules=[extension()] if has_compiler() else [],
    cmdclass={
        "build_ext": BuildExtension.with_options(use_ninja=shutil.which("ninja") is not None)
    },
)
