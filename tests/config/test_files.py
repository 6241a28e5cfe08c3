"""Config files are data: what is in them neither runs nor unfolds without end."""

import resource

import pytest
from detectron2.config import get_cfg

from deeplab2_d2.checkpoint.convert import load_config as load_for_conversion
from deeplab2_d2.config import merge_config_file
from deeplab2_d2.data.show.__main__ import main as show
from deeplab2_d2.engine import ConfigError, load_config

# Nine copies of the last line's value in each line: 9**12 values, of 12 lines.
BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{k}: &a{k} {{{', '.join(f'x{n}: *a{k - 1}' for n in range(9))}}}\n" for k in range(1, 12)
)
MERGED_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 12)
)


def merged(path):
    cfg = get_cfg()
    merge_config_file(cfg, str(path))
    return cfg


def read(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return merged(path)


def hostile(tmp_path):
    """A config that makes a file when it is taken for code, and that file."""
    path, made = tmp_path / "hostile.yaml", tmp_path / "made"
    path.write_text(f"SEED: !!python/object/apply:os.mkdir ['{made}']\n")
    return path, made


@pytest.mark.parametrize("is_base", [False, True])
def test_no_code_of_a_file_runs(tmp_path, is_base):
    path, made = hostile(tmp_path)
    if is_base:
        (tmp_path / "leaf.yaml").write_text(f"_BASE_: {path.name}\nSEED: 1\n")
    wanted = r"hostile\.yaml, line 1: !!python/object/apply:os\.mkdir would run Python"
    for load in (merged, load_config, load_for_conversion):
        with pytest.raises(ValueError, match=wanted):
            load(str(tmp_path / "leaf.yaml" if is_base else path))
    assert not made.exists()


def test_commands_that_read_a_config_say_so_in_a_line(tmp_path, capsys):
    path, made = hostile(tmp_path)
    assert show(["shapes_panoptic_train", "--config-file", str(path)]) == 1
    assert "would run Python" in capsys.readouterr().err and not made.exists()


def test_the_shorthand_of_detectron2s_coco_configs_is_told_what_to_write(tmp_path):
    sizes = "[[x, x * 2**(1.0/3)] for x in [32, 64]]"
    text = f'MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: !!python/object/apply:eval ["{sizes}"]\n'
    with pytest.raises(ValueError, match=r"line 3: .*apply:eval .* write the value itself"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "must have keys with values, .* got nothing"),
        ("[1]", "got a list"),
        ("!!python/name:os.system", "would run Python"),
        ("MODEL:\n\tX: 1", "no YAML of plain values: .*line 2, column 1.*not with tabs"),
        (b"SEED: \xe9", "byte 6 .0xe9. is not UTF-8"),
        ("SEED: !!int ''", "no YAML of plain values"),
        ("SEED: 2001-99-99", "month must be in 1..12"),
        ("SEED: " + "1" * 5000, "5000 digits"),
        ("1: 2", "line 1: keys must be words, got 1"),
        ("? [a]\n: 1", "keys must be words, got a sequence"),
        ("a: &a [*a]", "at most 32 levels"),
        ("a: &a [*a, *a, *a]", "at most 32 levels"),
        ("a: " + "[" * 20000, "at most 32 levels"),
        ("_BASE_: [[1]]", "_BASE_ must be a file or a list of files, got "),
        ("_BASE_: [c.yaml]", "must not be based on itself: .*c.yaml -> .*c.yaml"),
        (b"#" * (2 << 20), "at most 1048576 bytes"),
    ],
    ids=range(16),
)
def test_a_file_that_is_no_config_is_named_with_the_reason(tmp_path, content, reason):
    with pytest.raises(ValueError, match=rf"c\.yaml.*{reason}"):
        read(tmp_path, content)


@pytest.mark.parametrize("bomb", [BOMB, MERGED_BOMB], ids=["aliases", "merged"])
def test_aliases_that_unfold_to_all_memory_are_refused_in_little(tmp_path, bomb):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="at most 100000 values with its aliases written out"):
        read(tmp_path, bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_bases_that_are_named_without_end_are_refused(tmp_path):
    for k in range(20):  # Each reads the next one twice.
        (tmp_path / f"{k}.yaml").write_text(f"_BASE_: [{k + 1}.yaml, {k + 1}.yaml]\n")
    (tmp_path / "20.yaml").write_text("SEED: 1\n")
    with pytest.raises(ValueError, match="0.yaml must be based on at most 32 files"):
        merged(tmp_path / "0.yaml")


def test_aliases_and_merges_of_a_usual_size_are_read(tmp_path):
    cfg = read(tmp_path, "SOLVER: &s {BASE_LR: 0.5}\nINPUT: {CROP: {SIZE: &x [3, 3]}}\nSEED: 7\n")
    assert cfg.SOLVER.BASE_LR == 0.5 and cfg.INPUT.CROP.SIZE == [3, 3] and cfg.SEED == 7


def test_a_file_that_is_not_there_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("_BASE_: other.yaml\n")
    with pytest.raises(
        FileNotFoundError, match=r"c\.yaml: its _BASE_ .*other\.yaml does not exist"
    ):
        merged(tmp_path / "c.yaml")


def test_the_reason_is_told_without_naming_the_file_twice(tmp_path):
    (tmp_path / "c.yaml").write_text("[1]")
    with pytest.raises(ConfigError) as error:
        load_config(str(tmp_path / "c.yaml"))
    assert str(error.value).count("c.yaml") == 1
