"""The emulation of CUDA kernels sees each fault that emulation/faults.cu has, and no other."""

import ctypes
import re

import emulated_cuda
import kernel_races
import pytest

pytestmark = pytest.mark.slow

SOURCE = emulated_cuda.EMULATION / "faults.cu"
SCHEDULES = ["", "reversed", "1", "2", "3"]
# Kernel; whether the memory is shared; the two lines between which nothing orders, or the one that
# reads what has no value.
RACES = {
    "shift_kernel": ("shared shared", ["shared[threadIdx.x] =", "= shared[(threadIdx.x + 1)"]),
    "halves_kernel": ("shared halves", ["halves[is_mended", "halves[is_mended"]),
    "warp_kernel": ("shared shared", ["shared[threadIdx.x] =", "= shared[other]"]),
    "warps_kernel": ("shared shared", ["shared[threadIdx.x] =", "= shared[kThreads - 1"]),
    "rewrite_kernel": ("global memory", ["sum += numbers[i]", "numbers[own] = sum"]),
    "total_kernel": ("global memory", ["numbers[0] += 1", "numbers[0] += 1"]),
    "look_kernel": ("global memory", ["now = numbers[0]", "atomicMax(numbers"]),
    "flag_kernel": ("global memory", ["numbers[0] = 1", "numbers[0] = 1"]),
    "empty_kernel": ("shared shared + 256", ["= shared[threadIdx.x + 1]"]),
    "dynamic_kernel": ("shared dynamic + 0", ["= dynamic[kThreads - 1"]),
}
# What is said of threads that wait in vain.
WAITS = {
    "ended_kernel": r"thread \d+ waits for its block at faults.cu:\d+, thread \d+ has ended",
    "branches_kernel": r"thread \d+ waits for its block at .*, thread \d+ waits for its block at ",
    "mixed_kernel": r"waits for its (block at .* its warp at|warp at .* its block at) ",
    "part_kernel": r"thread \d+ waits for its warp at .*, thread \d+ waits for its warp at ",
}


@pytest.fixture(scope="module")
def library():
    return emulated_cuda.build_alone(SOURCE)


def run(library, kernel, is_mended):
    function = ctypes.CDLL(str(library)).run_fault
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_bool, ctypes.c_void_p]
    numbers = (ctypes.c_int * 64)(*range(64))
    with kernel_races.watch(library) as seen:
        error = function(kernel.encode(), is_mended, numbers).decode()
    return error, seen.races, list(numbers)


def place_of(kernel, text):
    """The line of a kernel that has a text."""
    before, after = SOURCE.read_text().split(f"void {kernel}(")
    (line,) = [i for i, line in enumerate(after.split("\n}")[0].split("\n")) if text in line]
    return f"faults.cu:{1 + before.count(chr(10)) + line}"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kernel", RACES)
def test_race_is_reported(library, monkeypatch, kernel, schedule):
    monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
    memory, lines = RACES[kernel]
    error, races, _ = run(library, kernel, is_mended=False)
    assert error == ""
    places = {tuple(sorted(use.place for use in race.uses)) for race in races}
    assert tuple(sorted(place_of(kernel, line) for line in lines)) in places
    for race in races:
        assert race.kernel == kernel and race.memory.startswith(memory)
        assert len({(use.block, use.thread) for use in race.uses}) == len(race.uses)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kernel", WAITS)
def test_wait_in_vain_is_an_error(library, monkeypatch, kernel, schedule):
    monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
    error, races, _ = run(library, kernel, is_mended=False)
    assert re.search(f"cuda_on_cpu: {kernel}: in block 0 .*{WAITS[kernel]}", error)
    assert races == []
    # The next launch starts afresh.
    assert run(library, kernel, is_mended=True)[0] == ""


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kernel", [*RACES, *WAITS])
def test_mended_kernel_is_not_reported(library, monkeypatch, kernel, schedule):
    monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
    error, races, _ = run(library, kernel, is_mended=True)
    assert error == "" and races == []


def test_races_change_results_in_some_schedule(library, monkeypatch):
    for kernel in ("shift_kernel", "rewrite_kernel"):
        results = set()
        for schedule in map(str, ["", "reversed", *range(5)]):
            monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
            results.add(tuple(run(library, kernel, is_mended=False)[2]))
        assert len(results) > 3


def test_schedule_is_that_of_its_seed(library, monkeypatch):
    monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", "5")
    first, second = (run(library, "shift_kernel", is_mended=False)[2] for _ in range(2))
    assert first == second


def test_shared_memory_starts_as_no_number(library):
    # The mended kernel ran before: what it left must not be there.
    run(library, "empty_kernel", is_mended=True)
    *_, numbers = run(library, "empty_kernel", is_mended=False)
    assert numbers == [1] * 63 + [0x7FF4A5A5]
