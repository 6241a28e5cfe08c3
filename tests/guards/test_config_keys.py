"""Every config key that the package adds is read by its code; Detectron2's keys are untouched."""

import ast
import re
from pathlib import Path

import pytest
from config_reads import config_reads, is_read
from detectron2.config import CfgNode, get_cfg

from deeplab2_d2.backbones.family import families
from deeplab2_d2.config import add_deeplab2_config

PACKAGE = Path(__file__).resolve().parents[2] / "projects" / "deeplab2_d2"


def leaves(node, prefix=()):
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, prefix + (name,))
        else:
            yield prefix + (name,), value


def added_keys():
    cfg, before = get_cfg(), dict(leaves(get_cfg()))
    add_deeplab2_config(cfg)
    return [key for key, _ in leaves(cfg) if key not in before]


def test_there_are_no_more_keys_than_a_reader_can_oversee():
    # 120 of images, 10 of videos, 12 of a detector with stuff, 10 of DeepLab v1 to v3+, 15 of four
    # families of backbones, 8 of a CRF after any model, 10 of a transformer of clusters, 7 of other
    # libraries' networks, 2 of the best checkpoint, 6 of a classifier, 1 of CUDA graphs.
    assert len(added_keys()) <= 201


def test_every_added_key_is_read():
    exact, suffixes = set(), set()
    for path in PACKAGE.rglob("*.py"):
        # A key that only its definition and its check know has no effect.
        if path.relative_to(PACKAGE).parts[0] != "config":
            found = config_reads(path.read_text())
            exact |= found[0]
            suffixes |= found[1]
    unread = [".".join(key) for key in _keys_of_no_family() if not is_read(key, exact, suffixes)]
    assert not unread, "\n".join(unread)


def _keys_of_no_family():
    """A family's keys are read below a node of any name: tests/backbones watches their effect."""
    nodes = {("MODEL", "DEEPLAB2", "BACKBONE", family.node) for family in families()}
    # `config.model_outputs` reads these for the models.
    outputs = {f"{name}_OUTPUT" for name in ("SEMANTIC", "PANOPTIC", "INSTANCE")}
    return [key for key in added_keys() if key[:4] not in nodes and key[-1] not in outputs]


def test_every_added_key_stands_under_a_deeplab2_node():
    assert [key for key in added_keys() if "DEEPLAB2" not in key[:-1]] == []


def test_adding_our_keys_changes_none_of_detectron2s():
    cfg, before = get_cfg(), dict(leaves(get_cfg()))
    add_deeplab2_config(cfg)
    after = dict(leaves(cfg))
    assert {key: after[key] for key in before} == before


def named_keys(source):
    """Full keys under our nodes that strings of a source file name."""
    strings = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    pattern = re.compile(r"\b(?:INPUT|MODEL|SOLVER|TEST)\.DEEPLAB2(?:\.[A-Z][A-Z0-9_]*)*")
    return {tuple(key.split(".")) for string in strings for key in pattern.findall(string)}


def test_every_key_that_a_message_or_docstring_names_exists():
    # Of earlier versions one table tells.
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "vanished.py"]
    exists = {key[:length] for key in added_keys() for length in range(1, len(key) + 1)}
    unknown = {
        str(path.relative_to(PACKAGE)): sorted(map(".".join, named_keys(path.read_text()) - exists))
        for path in sources
        if named_keys(path.read_text()) - exists
    }
    assert unknown == {}


def test_named_keys_are_found_in_messages_docstrings_and_parts_of_strings():
    source = """def f(x):
        "As MODEL.DEEPLAB2.A.B_1 says."
        raise ValueError(f"config key INPUT.DEEPLAB2.C, got {x}; SOLVER.DEEPLAB2.{x}; MODEL.D")
    """
    expected = {"MODEL.DEEPLAB2.A.B_1", "INPUT.DEEPLAB2.C", "SOLVER.DEEPLAB2"}
    assert named_keys(source) == {tuple(key.split(".")) for key in expected}


@pytest.mark.parametrize(
    "source, expected",
    [
        ("x = cfg.MODEL.A.K", True),
        ("x = self.cfg.MODEL.A.K", True),
        ("node = cfg.MODEL.A\nx = node.K", True),
        ("node, other = cfg.MODEL.A, 1\nx = node['K']", True),
        ("def f(node):\n    return node.K\nf(cfg.MODEL.A)", True),
        # The same name below another node, or written only, is no read.
        ("x = cfg.MODEL.B.K", False),
        ("node = cfg.MODEL.B\nx = node.K", False),
        ("def f(node):\n    return node.K\nf(cfg.MODEL.B)", False),
        ("cfg.MODEL.A.K = 1", False),
    ],
)
def test_a_read_is_found_in_each_way_of_writing_it(source, expected):
    assert is_read(("MODEL", "A", "K"), *config_reads(source)) is expected
