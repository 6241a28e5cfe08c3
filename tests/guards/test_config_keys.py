"""Every config key that the package adds is read by its code; Detectron2's keys are untouched."""

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
