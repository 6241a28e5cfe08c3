"""The extension is found, or its absence is said: never silently another thing."""

import functools
import logging

import pytest

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


def test_library_for_another_torch_is_named_and_not_loaded(
    undecided, monkeypatch, caplog, tmp_path
):
    monkeypatch.delenv(extension.REQUIRE_VARIABLE, raising=False)
    library = tmp_path / "_kernels.so"
    library.write_bytes(b"\0ELF\0deeplab2_d2 built for torch 1.13.1\0")
    monkeypatch.setattr(extension, "_find_library", lambda folder: library)
    with caplog.at_level(logging.WARNING):
        assert not extension.has_extension()
    assert "built for torch 1.13.1, but torch" in caplog.text


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
