import pytest

from deeplab2_d2.structures import DatasetClasses

# Contiguous 0 and 2 are things; category 21 is listed as both, as Cityscapes lists its things.
METADATA = {
    "name": "street",
    "thing_classes": ["person", "road", "car"],
    "stuff_classes": ["person", "road", "car"],
    "thing_dataset_id_to_contiguous_id": {21: 2, 9: 0},
    "stuff_dataset_id_to_contiguous_id": {7: 1, 21: 2},
    "label_divisor": 256,
    "ignore_label": 254,
}


def test_things_win_over_stuff_and_come_first():
    classes = DatasetClasses.from_metadata(METADATA)
    assert (classes.num_classes, classes.thing_ids, classes.stuff_ids) == (3, (0, 2), (1,))
    assert (classes.ignore_label, classes.label_divisor) == (254, 256)
    assert list(classes.category_ids.items()) == [(21, 2), (9, 0), (7, 1)]
    assert list(classes.categories.values()) == [
        {"id": 21, "name": "car", "isthing": 1},
        {"id": 9, "name": "person", "isthing": 1},
        {"id": 7, "name": "road", "isthing": 0},
    ]
    assert [classes.is_thing(k) for k in range(3)] == [True, False, True]


def test_lists_of_detectron2s_other_form_name_the_same_classes():
    # Its stuff_classes has a word for all things where things have a list of their own.
    metadata = {**METADATA, "stuff_classes": ["things", "road", "things"]}
    assert DatasetClasses.from_metadata(metadata).names == ("person", "road", "car")
    metadata = {**METADATA, "thing_classes": ["person"]}
    assert DatasetClasses.from_metadata(metadata).names == ("person", "road", "car")


@pytest.mark.parametrize(
    "key",
    [
        "thing_dataset_id_to_contiguous_id",
        "stuff_dataset_id_to_contiguous_id",
        "stuff_classes",
        "label_divisor",
    ],
)
def test_what_panoptic_metadata_lack_is_named(key):
    metadata = {k: v for k, v in METADATA.items() if k != key}
    with pytest.raises(ValueError, match=f"street must be registered .* lacks {key}"):
        DatasetClasses.from_metadata(metadata)


def test_a_semantic_dataset_needs_only_its_names():
    classes = DatasetClasses.from_metadata({"stuff_classes": ["a", "b"]}, needs_things=False)
    assert classes == DatasetClasses(2, (), ignore_label=255, label_divisor=1000)
    assert DatasetClasses.from_metadata({}, needs_things=False).num_classes == 0


def test_datasets_that_one_model_can_be_trained_on_are_equal_whatever_their_numbers():
    other = {
        **METADATA,
        "thing_dataset_id_to_contiguous_id": {1: 0, 2: 2},
        "stuff_dataset_id_to_contiguous_id": {3: 1},
    }
    assert DatasetClasses.from_metadata(other) == DatasetClasses.from_metadata(METADATA)
    other["label_divisor"] = 1000
    assert DatasetClasses.from_metadata(other) != DatasetClasses.from_metadata(METADATA)
