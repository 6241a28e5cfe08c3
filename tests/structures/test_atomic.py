import json

import pytest

from deeplab2_d2.structures import atomic_path, write_json


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
