import pytest
import torch
from measuring import (
    CLOCKS,
    Measurement,
    choose_clock,
    measure,
    measure_in_turns,
    peak_memory,
    read_clock,
)
from run import format_row

MIB = 2**20


def test_median_of_the_timed_calls_counts_and_warmups_do_not():
    # The clock is read before and after each timed call: 9, 1 and 2 seconds. The warm-ups are 2.
    times, calls = iter([0.0, 9.0, 10.0, 11.0, 20.0, 22.0]), []
    result = measure(lambda: calls.append(1), repeats=3, warmups=2, clock=lambda: next(times))
    assert (result.seconds, result.fastest, result.repeats) == (2.0, 1.0, 3)
    # One more call measures the memory.
    assert len(calls) == 2 + 3 + 1


def test_repeats_end_when_the_time_is_spent():
    times = iter([0.0, 40.0, 40.0, 80.0])
    result = measure(lambda: None, repeats=5, seconds_at_most=60.0, clock=lambda: next(times))
    assert result.repeats == 2


def test_calls_that_are_compared_take_turns_so_that_a_slow_while_is_shared():
    # Each is called once as a warm-up, then twice, and once more for its memory.
    calls = []
    times = iter([0.0, 1.0, 1.0, 3.0, 10.0, 13.0, 13.0, 17.0])
    result = measure_in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        repeats=2,
        clock=lambda: next(times),
    )
    assert "".join(calls) == "ab" + "abab" + "ab"
    assert (result["a"].seconds, result["a"].fastest) == (2.0, 1.0)
    assert (result["b"].seconds, result["b"].fastest) == (3.0, 2.0)


def test_the_clock_that_is_chosen_counts(monkeypatch):
    times = iter([1.0, 4.0, 9.0])
    monkeypatch.setitem(CLOCKS, "process", lambda: next(times))
    choose_clock("process")
    try:
        assert read_clock() == 1.0
        assert measure(lambda: None, repeats=1, warmups=0).seconds == 5.0
    finally:
        choose_clock("wall")


@pytest.mark.parametrize("size", [32, 128])
def test_peak_memory_sees_what_was_freed_before_the_end(size):
    peak = peak_memory(lambda: torch.ones(size * MIB // 4).sum())
    if peak is None:
        pytest.skip("the high-water mark of the process can only be read on Linux")
    # Below: what malloc already held. Above: what the sum needs.
    assert 0.9 * size * MIB <= peak <= (size + 16) * MIB


def test_ratio_above_one_means_that_the_peer_is_slower():
    row = {
        "name": "grouping 1025x2049",
        "measurement": Measurement(0.0125, 0.012, 5, 3 * MIB),
        "peer": "Detectron2",
        "peer_seconds": 1.0,
    }
    assert format_row(row) == [
        "grouping 1025x2049", "12.5 ms", "12 ms", "3 MiB", "Detectron2", "1 s", "80.00x",
    ]  # fmt: skip


def test_no_repeat_is_refused():
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        measure(lambda: None, repeats=0)
