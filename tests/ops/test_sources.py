"""What holds for the C++ and CUDA sources as text, and for how they are built."""

import re
from collections import defaultdict

import cuda_compiler
import torch

HEADERS = [path for path in cuda_compiler.SOURCES.rglob("*") if path.suffix in (".h", ".cuh")]
_CONSTANT = re.compile(r"^(?:inline )?constexpr [\w:]+ (k\w+) = ([^;]+);", re.MULTILINE)


def test_a_constant_of_the_headers_has_one_value():
    # All are in one namespace: of two, a file that includes both would have either.
    values = defaultdict(set)
    for path in HEADERS:
        for name, value in _CONSTANT.findall(path.read_text()):
            values[name].add((path.name, value))
    assert {name: where for name, where in values.items() if len(where) > 1} == {}


def test_kernels_of_headers_have_internal_linkage():
    # Else two files with a kernel of one name are one program with two definitions.
    for path in HEADERS:
        before, *kernels = path.read_text().split("__global__")
        assert not kernels or "\nnamespace {\n" in before, path.name


def test_what_registers_an_operator_includes_how():
    # The emulation compiles all of them with that header.
    for path in cuda_compiler.SOURCES.rglob("*.c*"):
        text = path.read_text()
        assert ("TORCH_LIBRARY" in text) <= ("#include <torch/library.h>" in text), path.name


def test_an_a100_an_h100_and_later_gpus_are_built_for_where_none_is(monkeypatch):
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    build = cuda_compiler.build_script()["architectures"]
    assert build() == "8.0 9.0+PTX"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert build() is None
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "7.5")
    assert build() == "7.5"
