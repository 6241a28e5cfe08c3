import pytest

from deeplab2_d2.structures import load_plain_yaml


def test_plain_values_are_what_they_say():
    text = b"names: {0: pear, 1: apple}\nlist: &l [1, 2.5, yes, ~]\nagain: *l\n"
    expected = {"names": {0: "pear", 1: "apple"}, "list": [1, 2.5, True, None]}
    assert load_plain_yaml(text, "a.yaml") == {**expected, "again": expected["list"]}
    assert load_plain_yaml(b"# nothing", "a.yaml") is None


def test_merged_mappings_that_double_without_end_are_refused():
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{k}: &a{k} {{<<: [*a{k - 1}, *a{k - 1}]}}" for k in range(1, 28)]
    with pytest.raises(ValueError, match="a.yaml must have (at most|its values at most)"):
        load_plain_yaml("\n".join(lines).encode(), "a.yaml")


def test_keys_are_asked_to_be_words_where_that_is_needed():
    with pytest.raises(ValueError, match="a.yaml, line 2: keys must be words, got 0"):
        load_plain_yaml(b"a: b\n0: c\n", "a.yaml", needs_words=True)
