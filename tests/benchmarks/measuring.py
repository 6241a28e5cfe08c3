"""
How the benchmarks measure: the median time of repeats, and the peak memory above the start.

Time is wall-clock time of one call on the CPU, or after ``choose_clock("process")`` the processor
time of all its threads; on a GPU that between two CUDA events around the
call, once all work before it is done. Memory is what a call adds at its
worst moment: on the GPU what PyTorch's allocator counts; on the CPU the high-water mark of the
process (Linux only), which sees every allocation, also those of C++ and of NumPy.
"""

import ctypes
import gc
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional

import torch
from torch.profiler import ProfilerActivity, profile

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

CLOCKS = {"wall": time.perf_counter, "process": time.process_time}
_clock = CLOCKS["wall"]


def choose_clock(name: str) -> None:
    """What the CPU's times are from now on: "wall" or "process"."""
    global _clock
    _clock = CLOCKS[name]


def read_clock() -> float:
    """Seconds of the clock that was chosen."""
    return _clock()


@dataclass(frozen=True)
class Measurement:
    """
    Attributes:
        seconds: median of the repeats.
        fastest: the fastest of the repeats, in seconds.
        repeats: how many they were.
        peak_bytes: most memory in use during a call, above what was in use before; None where it
            cannot be measured.
    """

    seconds: float
    fastest: float
    repeats: int
    peak_bytes: Optional[int]


def measure(
    call: Callable[[], object],
    *,
    repeats: int = 5,
    warmups: int = 1,
    device: str = "cpu",
    seconds_at_most: float = 60.0,
    clock: Callable[[], float] = read_clock,
) -> Measurement:
    """
    Measure a call. Memory is measured in a call of its own, so that it cannot disturb the time.

    Args:
        call: takes nothing; what it returns is dropped.
        repeats: timed calls; fewer (at least one) once `seconds_at_most` are spent.
        warmups: calls before, not timed.
        device: "cpu" or "cuda": whose memory is meant, and whether the GPU is waited for.
    """
    measured = measure_in_turns(
        {"": call},
        repeats=repeats,
        warmups=warmups,
        device=device,
        seconds_at_most=seconds_at_most,
        clock=clock,
    )
    return measured[""]


def measure_in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 5,
    warmups: int = 1,
    device: str = "cpu",
    seconds_at_most: float = 60.0,
    clock: Callable[[], float] = read_clock,
) -> Dict[str, Measurement]:
    """
    Measure calls that are compared: each once, then each again, so that all share what disturbs.

    Args:
        calls: by name.
        repeats, warmups, device: of each; see :func:`measure`.
        seconds_at_most: of each on average.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    for _ in range(warmups):
        for call in calls.values():
            call()
    times: Dict[str, List[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        if sum(map(sum, times.values())) >= seconds_at_most * len(calls):
            break
        for name, call in calls.items():
            times[name].append(_time(call, clock) if device == "cpu" else _time_on_gpu(call))
    return {
        name: Measurement(
            statistics.median(found),
            min(found),
            len(found),
            peak_memory(calls[name], device=device),
        )
        for name, found in times.items()
    }


def _time(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def _time_on_gpu(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def peak_memory(call: Callable[[], object], *, device: str = "cpu") -> Optional[int]:
    """Bytes that a call adds at its worst moment; None where that cannot be measured."""
    gc.collect()
    if device != "cpu":
        _wait(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        _wait(device)
        return torch.cuda.max_memory_allocated() - before
    if not _CLEAR.exists():
        return None
    # Free memory that malloc keeps would be used again unseen.
    ctypes.CDLL(None).malloc_trim(0)
    _CLEAR.write_text("5")  # proc(5): resets the high-water mark VmHWM to the memory in use
    before = _status_bytes("VmHWM")
    call()
    return _status_bytes("VmHWM") - before


def allocated_peak(call: Callable[[], object]) -> int:
    """
    Most bytes of CPU tensors that a call has at once, the same in every run.

    The process's own high-water mark also holds what malloc keeps of freed blocks, and what other
    libraries allocate.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = [
        event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"{_STATUS} has no {field}")


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
