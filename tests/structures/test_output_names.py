import pytest

from deeplab2_d2.structures import check_distinct_stems, check_output_name, claim_output, stem_of


def test_a_stem_has_neither_folder_nor_ending():
    assert stem_of("a/b.c/photo.1.jpg") == "photo.1"


@pytest.mark.parametrize("other", ["y/a.png", "x/a.jpg", "x/A.PNG", "x/a.png"])
def test_two_inputs_of_one_stem_are_both_named(other):
    check_distinct_stems(["x/a.png", "x/ab.png"])
    with pytest.raises(ValueError, match=f"got x/a.png and {other}: both would have the output"):
        check_distinct_stems(["x/a.png", other])


def test_a_refused_claim_leaves_the_owner():
    owners = {}
    claim_output(owners, "a.png", "first")
    with pytest.raises(ValueError, match="got first and second: both would have the mask A.png"):
        claim_output(owners, "A.png", "second", "the mask")
    assert owners == {"a.png": "first"}


HOSTILE = [
    "",
    "/tmp/a",
    "../a",
    "a/../../b",
    "..",
    "..\\a",
    "\\a",
    "a\0b",
    "a\nb",
    "\x1b[31ma",
    "a\u202eb",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_that_leads_out_of_its_folder_or_cannot_be_printed_is_refused(name):
    for check in (check_output_name, lambda name, owner: claim_output({}, name, owner)):
        with pytest.raises(ValueError, match="got 'photo' with the output") as error:
            check(name, "photo")
        assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["a", "a/b.png", "..a", "a..b", "...", "a b", "größe/写真.png"])
def test_usual_names_are_taken(name):
    check_output_name(name, "photo")
