import errno
import json
import os
import signal

import pytest

from deeplab2_d2.structures import atomic_path, remove_leftovers, write_json


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "below" / "a.txt"
    with atomic_path(str(path)) as temporary:
        assert temporary.endswith(".txt") and not path.exists()
        open(temporary, "w").write("whole")
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_json(str(path), {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(str(path), {"a": 1, "b": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_link_is_replaced_and_what_it_leads_to_is_not_written(tmp_path):
    (tmp_path / "other.json").write_text("mine")
    (tmp_path / "a.json").symlink_to(tmp_path / "other.json")
    write_json(str(tmp_path / "a.json"), [])
    assert (tmp_path / "other.json").read_text() == "mine"
    assert (tmp_path / "a.json").read_text() == "[]"


def test_what_a_killed_writer_has_left_is_removed_and_what_one_is_writing_stays(tmp_path):
    path = tmp_path / "model_0000001.pth"
    with atomic_path(str(path)) as temporary:
        left = tmp_path / ".model_0000000.abc_1234.part.pth"
        left.write_bytes(b"half")
        (tmp_path / ".mine.part.pth").write_bytes(b"another's file")
        assert remove_leftovers(str(tmp_path)) == [str(left)]
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            [".mine.part.pth", temporary.rpartition("/")[2]]
        )
    assert path.exists() and remove_leftovers(str(tmp_path)) == []
    assert remove_leftovers(str(tmp_path / "nothing")) == []


def test_a_process_that_is_killed_while_it_writes_leaves_a_file_that_the_next_removes(tmp_path):
    child = os.fork()
    if child == 0:
        with atomic_path(str(tmp_path / "a.pth")):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    assert remove_leftovers(str(tmp_path)) == [str(left)] and not left.exists()


def test_a_write_that_the_system_refuses_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: .*/a\.txt'$"):
        with atomic_path(str(tmp_path / "a.txt")):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
