import pytest

from deeplab2_d2.data.sequences import join_frames


def _frame(sequence, frame, **entries):
    name = f"{sequence}/{frame}"
    return {
        "file_name": f"{name}.jpg",
        "pan_seg_file_name": f"{name}.png",
        "segments_info": [{"id": frame + 1}],
        "sequence": sequence,
        "frame": frame,
        **entries,
    }


def _neighbors(frames):
    return [(f["file_name"], f.get("previous_file_name"), f.get("next_file_name")) for f in frames]


def test_frames_are_sorted_and_have_their_neighbors_of_the_same_sequence():
    frames = join_frames([_frame("b", 0), _frame("a", 10), _frame("a", 9), _frame("a", 11)], "x")
    assert _neighbors(frames) == [
        ("a/9.jpg", None, "a/10.jpg"),
        ("a/10.jpg", "a/9.jpg", "a/11.jpg"),
        ("a/11.jpg", "a/10.jpg", None),
        ("b/0.jpg", None, None),
    ]
    middle = frames[1]
    assert (middle["previous_pan_seg_file_name"], middle["next_pan_seg_file_name"]) == (
        "a/9.png",
        "a/11.png",
    )
    assert (middle["previous_segments_info"], middle["next_segments_info"]) == (
        [{"id": 10}],
        [{"id": 12}],
    )
    assert not [key for key in frames[3] if key.startswith(("previous", "next"))]


@pytest.mark.parametrize("step", [1, 30])
def test_frames_are_not_joined_over_a_gap_in_the_step_of_the_dataset(step):
    frames = join_frames([_frame("a", step * k) for k in (0, 1, 3)], "x")
    assert _neighbors(frames) == [
        ("a/0.jpg", None, f"a/{step}.jpg"),
        (f"a/{step}.jpg", "a/0.jpg", None),
        (f"a/{3 * step}.jpg", None, None),
    ]


def test_what_a_neighbor_does_not_have_is_not_told_of_it():
    first = _frame("a", 0)
    del first["pan_seg_file_name"], first["segments_info"]
    _, second = join_frames([first, _frame("a", 1)], "x")
    assert "previous_file_name" in second and "previous_segments_info" not in second


def test_the_given_dicts_stay_as_they_are():
    given = [_frame("a", 1), _frame("a", 0)]
    join_frames(given, "x")
    assert given == [_frame("a", 1), _frame("a", 0)]


def test_a_frame_that_is_there_twice_is_named_with_both_files():
    twice = [_frame("a", 3), _frame("a", 3, file_name="other.jpg"), _frame("a", 4)]
    with pytest.raises(ValueError, match="x: .*frame 3 of sequence 'a' is a/3.jpg and other.jpg"):
        join_frames(twice, "x")


@pytest.mark.parametrize("entries", [{"sequence": None}, {"frame": "7"}, {"sequence": 4}])
def test_an_image_without_a_place_among_frames_is_named(entries):
    with pytest.raises(ValueError, match="x: .*'sequence', a string, and 'frame'.*a/7.jpg has"):
        join_frames([_frame("a", 6), {**_frame("a", 7), **entries}], "x")
