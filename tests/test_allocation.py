"""Freed memory is used again, not cleared and mapped anew."""

import os
import subprocess
import sys

import pytest

# Pages of 4 KB that a process had to map for the last of some tensors of 64 MiB. The first ones
# find the places that are used again.
_PROGRAM = """
import resource, sys, torch
from deeplab2_d2.allocation import keep_freed_memory
torch.set_num_threads(1)
kept = sys.argv[1] == "keep" and keep_freed_memory()
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(argument, **variables):
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", _PROGRAM, argument]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_pages_of_freed_tensors_are_used_again():
    kept, faults = _run("keep")
    if not kept:
        pytest.skip("the C library is not glibc, or the environment has chosen")
    assert faults < 100
    # Without it every page is mapped again, unless the system has huge ones.
    _, faults_without = _run("leave")
    assert faults_without > 10 * max(faults, 3)


def test_the_users_choice_stands():
    assert _run("keep", MALLOC_MMAP_THRESHOLD_="1000000")[0] is False
