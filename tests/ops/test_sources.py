"""What holds for the C++ and CUDA sources as text."""

import re
from collections import defaultdict

import cuda_compiler

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
