"""One run at a time in an output folder."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from deeplab2_d2.engine import ConfigError
from deeplab2_d2.engine.run_lock import lock_output_dir, locked_output_dir

# Locks, forks as a data loader does, says so, and stays until it is killed; so does its child.
HOLDER = """
import os, sys, time
from deeplab2_d2.engine.run_lock import lock_output_dir
lock_output_dir(sys.argv[1])
if os.fork() == 0:
    time.sleep(20)
    os._exit(0)
print("locked", flush=True)
time.sleep(600)
"""


def test_a_second_run_is_refused_until_the_first_is_dead(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": "projects"}
    holder = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=f"OUTPUT_DIR must .* by process {holder.pid} on .*"):
            lock_output_dir(str(tmp_path))
    finally:
        # As the kernel does where memory runs out: nothing can be cleaned up.
        holder.kill()
        holder.wait()
    # The child lives on without the lock.
    with locked_output_dir(str(tmp_path)):
        # A run may train and then evaluate.
        with locked_output_dir(str(tmp_path / ".")):
            lock_output_dir(str(tmp_path))


def test_the_other_processes_of_a_job_are_refused_too(tmp_path, monkeypatch):
    with open(tmp_path / "run.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: False)
        monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda own: ["in use", own])
        with pytest.raises(ConfigError, match="^in use$"):
            lock_output_dir(str(tmp_path))
        # They ask for no lock themselves.
        monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda own: [None, own])
        lock_output_dir(str(tmp_path))


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock_output_dir(str(tmp_path / "new"))
    assert (
        "new cannot be locked ([Errno 37] No locks available): start no second run" in caplog.text
    )
