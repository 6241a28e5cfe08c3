"""The extension is found, or its absence is said: never silently another thing."""

import contextlib
import functools
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from deeplab2_d2 import ops
from deeplab2_d2.ops import extension

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)


@pytest.fixture
def undecided(monkeypatch):
    """Forget for a test whether the extension is there."""
    for name in ("_load", "_has_kernels_for"):
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


@needs_extension
@pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="a PyTorch without OpenMP")
def test_operators_use_the_threads_of_pytorch():
    # Compiled without OpenMP, at::parallel_for is a plain loop; linked with it, it may bring an
    # OpenMP of its own, whose threads torch.set_num_threads does not count.
    library = extension._find_library(Path(extension.__file__).parent).read_bytes()
    assert b"GOMP_parallel" in library
    assert b"libgomp" not in library


@pytest.fixture
def is_called(monkeypatch):
    """A function that calls an operator and says whether its reference ran."""
    calls = []
    reference = ops.reference.group_pixels

    def recorded(*tensors):
        calls.append(tensors)
        return reference(*tensors)

    monkeypatch.setattr(ops.reference, "group_pixels", recorded)

    def run():
        calls.clear()
        counts = torch.ones(1, dtype=torch.int32)
        ops.group_pixels(torch.zeros(1, 1, 2), counts, torch.zeros(1, 2, 3, 3))
        return len(calls) == 1

    return run


@needs_extension
def test_reference_is_chosen_inside_of_its_context_alone(is_called):
    assert not is_called()
    with ops.use_reference():
        assert is_called()
        with ops.use_reference():
            assert is_called()
        assert is_called()
    assert not is_called()
    assert ops.use_reference()(is_called)() and not is_called()


@needs_extension
def test_one_context_may_be_entered_again_and_ends_with_an_error_too(is_called):
    context = ops.use_reference()
    with pytest.raises(KeyError), context:
        with context:
            assert is_called()
        assert is_called()
        raise KeyError
    assert not is_called()


@needs_extension
def test_reference_is_chosen_in_one_thread_alone(is_called):
    results = {}

    def run(name, event, other):
        with ops.use_reference() if name == "inside" else contextlib.nullcontext():
            event.set()
            assert other.wait(10)
            results[name] = extension.has_kernels("group_pixels", "cpu")

    events = threading.Event(), threading.Event()
    threads = [
        threading.Thread(target=run, args=("inside", *events)),
        threading.Thread(target=run, args=("outside", *events[::-1])),
    ]
    with ops.use_reference():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {"inside": False, "outside": True}


def _has_kernels_before_within_and_after(connection):
    answers = [extension.has_kernels("group_pixels", "cpu")]
    with ops.use_reference():
        answers.append(extension.has_kernels("group_pixels", "cpu"))
    connection.send([*answers, extension.has_kernels("group_pixels", "cpu")])


@needs_extension
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_forked_process_does_not_inherit_the_choice():
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with ops.use_reference():
        process = multiprocessing.get_context("fork").Process(
            target=_has_kernels_before_within_and_after, args=(sender,)
        )
        process.start()
        answers = receiver.recv()
        process.join()
    assert answers == [True, False, True]


def test_reference_on_purpose_is_no_absence(undecided, monkeypatch, is_called):
    monkeypatch.setenv(extension.REQUIRE_VARIABLE, "1")
    monkeypatch.setattr(extension, "_find_library", lambda folder: None)
    with ops.use_reference():
        assert is_called()
    with pytest.raises(RuntimeError, match=extension.REQUIRE_VARIABLE):
        is_called()


@needs_extension
@pytest.mark.slow
def test_traced_code_keeps_the_choice_of_the_moment_of_tracing(is_called):
    def called_operators(maps):
        module = torch.nn.Module()
        module.forward = lambda costs: ops.upsampled_cross_entropy(
            costs, torch.zeros(1, 3, 3, dtype=torch.int64), None, ignore_label=255
        )
        graph = torch.export.export(module, (maps,)).graph
        return [str(node.target) for node in graph.nodes if "deeplab2_d2" in str(node.target)]

    maps = torch.zeros(1, 2, 2, 2)
    assert called_operators(maps) == ["deeplab2_d2.upsampled_cross_entropy.default"]
    with ops.use_reference():
        assert called_operators(maps) == []


@pytest.mark.slow
def test_context_inside_of_traced_code_is_an_error():
    def function(costs):
        with ops.use_reference():
            return ops.linear_assignment(costs)

    with pytest.raises(Exception, match="use_reference must be entered outside"):
        torch.compile(function, fullgraph=True, backend="eager")(torch.zeros(1, 2, 2))


@needs_extension
def test_first_calls_may_come_from_several_threads():
    program = """
import threading, torch, deeplab2_d2
from deeplab2_d2 import ops
start, errors = threading.Barrier(8), []
def call():
    start.wait()
    try:
        ops.label_overlap(torch.zeros(4, dtype=torch.int32), torch.zeros(4, dtype=torch.int32))
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=call) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not errors, errors
"""
    subprocess.run([sys.executable, "-c", program], check=True)
