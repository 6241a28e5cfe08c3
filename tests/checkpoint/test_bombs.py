"""Small files that unfold to all memory are refused, and take little of it."""

import os
import re
import subprocess
import sys

import bombs
import pytest

REASONS = {
    "extended_header": "a header must have at most 65536 bytes, got 1073741824",
    "keys": "the entries of the table take more than",
    "long_name": "a header must have at most 65536 bytes, got 1073741824",
    "long_text": "no whole pickle",
    "many_headers": "many.tar.gz.*a damaged archive",
    "memo": "^read$",  # It holds nothing: the place is only a number.
    "packed": "must not unfold to more than it has",
    "repeated": r"the numbers of a tensor of \(262144, 262144\) are not there",
    "shards": "data-00000-of-1099511627776: this shard of the checkpoint is missing",
}


@pytest.mark.slow
def test_readers_take_less_than_256_mib_for_what_unfolds_to_all_memory(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, bombs.__file__, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_size < 2 << 20 for path in tmp_path.iterdir())
    results = [line.split("\t") for line in done.stdout.splitlines()]
    assert sorted(name for name, _, _ in results) == sorted(REASONS)
    for name, grown, error in results:
        assert int(grown) < 256 and re.search(REASONS[name], error), (name, grown, error)
