"""The extension is found, or its absence is said: never silently another thing."""

import functools
import logging
from pathlib import Path

import pytest
import torch

from deeplab2_d2.ops import extension


@pytest.fixture
def undecided(monkeypatch):
    """Forget for a test whether the extension is there."""
    for name in ("_is_loaded", "_has_kernels_for"):
        function = getattr(extension, name).__wrapped__
        monkeypatch.setattr(extension, name, functools.lru_cache(maxsize=None)(function))


def test_absence_is_one_warning_that_names_the_build_command(undecided, monkeypatch, caplog):
    monkeypatch.delenv(extension.REQUIRE_VARIABLE, raising=False)
    monkeypatch.setattr(extension, "_find_library", lambda folder: None)
    with caplog.at_level(logging.WARNING):
        assert not extension.has_extension()
        assert not extension.has_extension()
    assert len(caplog.records) == 1
    assert extension.BUILD_COMMAND in caplog.text and "not built" in caplog.text


def test_absence_is_an_error_where_operators_are_required(undecided, monkeypatch):
    monkeypatch.setenv(extension.REQUIRE_VARIABLE, "1")
    monkeypatch.setattr(extension, "_find_library", lambda folder: None)
    with pytest.raises(RuntimeError, match=extension.REQUIRE_VARIABLE):
        extension.has_extension()


@pytest.mark.parametrize(
    "built_for, running_cuda, message",
    [
        ("1.13.1", "12.4", "built for torch 1.13.1, but torch 9.9.0 is running"),
        ("9.9.0 with CUDA 11.8", "12.4", "9.9.0 with CUDA 11.8, but torch 9.9.0 with CUDA 12.4 is"),
        ("9.9.0 with CUDA 11.8", None, "9.9.0 with CUDA 11.8, but torch 9.9.0 without CUDA is"),
        ("nothing", "12.4", "built for torch an unknown version, but torch 9.9.0 is running"),
    ],
)
def test_library_for_another_torch_is_named_and_not_loaded(
    undecided, monkeypatch, caplog, tmp_path, built_for, running_cuda, message
):
    monkeypatch.delenv(extension.REQUIRE_VARIABLE, raising=False)
    monkeypatch.setattr(extension.torch, "__version__", "9.9.0+local")
    monkeypatch.setattr(extension.torch.version, "cuda", running_cuda)
    library = tmp_path / "_kernels.so"
    library.write_bytes(f"\0ELF\0deeplab2_d2 built for torch {built_for}\0".encode())
    monkeypatch.setattr(extension, "_find_library", lambda folder: library)
    with caplog.at_level(logging.WARNING):
        assert not extension.has_extension()
    assert message in caplog.text


@pytest.mark.parametrize("built_for", ["9.9.0", "9.9.0 with CUDA 12.4"])
def test_library_for_this_torch_is_usable(monkeypatch, tmp_path, built_for):
    monkeypatch.setattr(extension.torch, "__version__", "9.9.0+local")
    monkeypatch.setattr(extension.torch.version, "cuda", "12.4")
    library = tmp_path / "_kernels.so"
    library.write_bytes(f"\0ELF\0deeplab2_d2 built for torch {built_for}\0".encode())
    assert extension._why_unusable(library) is None


def test_device_without_kernels_is_named(undecided, monkeypatch, caplog):
    monkeypatch.delenv(extension.REQUIRE_VARIABLE, raising=False)
    monkeypatch.setattr(extension, "_is_loaded", lambda: True)
    monkeypatch.setattr(extension, "_is_in_library", lambda name: True)
    monkeypatch.setattr(
        extension.torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: False
    )
    with caplog.at_level(logging.WARNING):
        assert not extension._has_kernels_for("find_centers", "cuda")
    assert "find_centers has no kernel for cuda" in caplog.text


def test_library_that_lacks_an_operator_is_named(undecided, monkeypatch, caplog):
    # As after an update of the code without a build.
    monkeypatch.delenv(extension.REQUIRE_VARIABLE, raising=False)
    monkeypatch.setattr(extension, "_is_loaded", lambda: True)
    with caplog.at_level(logging.WARNING):
        assert not extension.has_extension("added_since", "cpu")
    assert "older than its code: they lack added_since" in caplog.text
    assert extension.BUILD_COMMAND in caplog.text


@pytest.mark.skipif(not extension.has_extension(), reason="the compiled operators are not built")
@pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="a PyTorch without OpenMP")
def test_operators_use_the_threads_of_pytorch():
    # Compiled without OpenMP, at::parallel_for is a plain loop; linked with it, it may bring an
    # OpenMP of its own, whose threads torch.set_num_threads does not count.
    library = extension._find_library(Path(extension.__file__).parent).read_bytes()
    assert b"GOMP_parallel" in library
    assert b"libgomp" not in library
