import math

import pytest

from deeplab2_d2.checkpoint.textproto import TextProtoError, parse_textproto


def parse(text, **kwargs):
    return parse_textproto(text, **kwargs)


def test_nested_messages_comments_and_repeated_fields():
    text = """
    # A comment with "quotes" and { braces }.
    experiment_name: "run"  # behind a value
    train_dataset_options {
      crop_size: 641
      crop_size: 1025
      file_pattern: ["a-*", 'b-*']
      augmentations { max_scale_factor: 2 }
    }
    """
    assert parse(text) == {
        "experiment_name": "run",
        "train_dataset_options": {
            "crop_size": [641, 1025],
            "file_pattern": ["a-*", "b-*"],
            "augmentations": {"max_scale_factor": 2.0},
        },
    }


@pytest.mark.parametrize(
    "text",
    [
        'model_options { backbone { name: "resnet50" output_stride: 16 } }',
        'model_options: { backbone: { name: "resnet50", output_stride: 16; }; }',
        'model_options < backbone < name: "res" "net50" output_stride: 0x10 > >',
        "model_options{backbone{name:'resnet50'output_stride:020}}",
    ],
)
def test_all_ways_to_write_a_message_are_equal(text):
    backbone = {"name": "resnet50", "output_stride": 16}
    assert parse(text) == {"model_options": {"backbone": backbone}}


def test_lists_of_messages():
    text = 'low_level: [{feature_key: "res3" channels_project: 64}, <feature_key: "res2">]'
    expected = [{"feature_key": "res3", "channels_project": 64}, {"feature_key": "res2"}]
    assert parse(text, message="PanopticDeeplabOptions") == {"low_level": expected}
    assert parse("atrous_rates: []", message="DecoderOptions") == {"atrous_rates": []}


@pytest.mark.parametrize(
    "written, value",
    [("1", 1.0), ("-2.5e-3", -0.0025), (".5", 0.5), ("3.f", 3.0), ("inf", math.inf)],
)
def test_floats(written, value):
    assert parse(f"weight: {written}", message="SingleLossOptions") == {"weight": value}


@pytest.mark.parametrize("written, value", [("true", True), ("f", False), ("1", True)])
def test_bools(written, value):
    assert parse(f"enable: {written}", message="InstanceOptions") == {"enable": value}


def test_escapes_in_strings():
    assert parse(r'experiment_name: "a\"b\n\x41"') == {"experiment_name": 'a"b\nA'}


def test_placeholders_stay_in_strings_and_are_filled_when_given():
    text = 'train_dataset_options { file_pattern: "${TRAIN}/part-*" batch_size: ${BATCH} }'
    filled = parse(text, placeholders={"TRAIN": "data", "BATCH": "8"})
    assert filled == {"train_dataset_options": {"file_pattern": ["data/part-*"], "batch_size": 8}}
    string = parse('experiment_name: "${NAME}"')
    assert string == {"experiment_name": "${NAME}"}
    with pytest.raises(TextProtoError, match="1:69: a value of type int expected"):
        parse(text, placeholders={"TRAIN": "data"})


# More than any float.
_HUGE = "trainer_options { solver_options { base_learning_rate: 0x" + "f" * 400 + " } }"


@pytest.mark.parametrize(
    "text, line, column, message",
    [
        ("model_options {\n  backbon { }\n}", 2, 3, "no field 'backbon'"),
        ("model_options {\n  backbone {\n", 2, 12, "never closed"),
        ("experiment_name 'a'", 1, 17, "':' expected"),
        ("experiment_name: 3", 1, 18, "type string"),
        (_HUGE, 1, 56, "type float expected"),
        ("\n\ttrain_dataset_options { batch_size: 1.5 }", 2, 38, "type int"),
        ("model_options { backbone: 3 }", 1, 27, "'{' of a BackboneOptions expected"),
        ("experiment_name: 'a'\nexperiment_name: 'b'", 2, 1, "set twice"),
        ("experiment_name: ['a']", 1, 18, "one value, not a list"),
        ("experiment_name: 'a", 1, 18, "unexpected"),
        ("}", 1, 1, "a field of ExperimentOptions expected"),
        ("model_options { ] }", 1, 17, "a field of ModelOptions expected"),
        ("train_dataset_options { crop_size: [1 2] }", 1, 39, "',' or '\\]' expected"),
        ("model_options { backbone > }", 1, 26, "expected"),
        ("experiment_name:", 1, 17, "the end of the text"),
    ],
)
def test_malformed_text_has_line_and_column(text, line, column, message):
    with pytest.raises(TextProtoError, match=message) as error:
        parse(text, source="my.textproto")
    assert (error.value.line, error.value.column) == (line, column)
    assert str(error.value).startswith(f"my.textproto:{line}:{column}: ")


def test_an_empty_placeholder_is_no_number():
    text = "train_dataset_options { batch_size: ${X} }"
    with pytest.raises(TextProtoError, match="type int expected"):
        parse(text, placeholders={"X": ""})
    text = "trainer_options { solver_options { base_learning_rate: ${X} } }"
    with pytest.raises(TextProtoError, match="type float expected"):
        parse(text, placeholders={"X": ""})
