"""A model is a folder, and nothing outside its folder knows its name."""

import ast
import re
from functools import lru_cache
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

import pytest
from detectron2.config import CfgNode, get_cfg
from source_imports import imported_modules

from deeplab2_d2.config import add_deeplab2_config, defaults
from deeplab2_d2.records import all_records

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "projects" / "deeplab2_d2"

# Where words of old are: keys that no model has any more, and the keys in their place. It says
# keys, and neither classes nor modules.
HISTORY = {"config/vanished.py"}
# Imports of the folders fill their records.
ENTRY_POINTS = {"models/__init__.py"}


class Words(NamedTuple):
    """
    What only a model's folder may say.

    Attributes:
        folder: its name.
        classes: public classes, which are what it registers.
        keys: config nodes and keys that it adds.
    """

    folder: str
    classes: Set[str]
    keys: Set[str]


def defined_classes(source: str) -> Set[str]:
    """Public classes of a source file."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return {node.name for node in nodes if not node.name.startswith("_")}


def assigned_keys(source: str) -> Set[str]:
    """Names of config keys and nodes that a source file assigns, ``node.A.KEY = ...``."""
    targets: List[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            targets += node.targets
    return {t.attr for t in targets if isinstance(t, ast.Attribute) and t.attr.isupper()}


def words_of_models() -> Dict[str, Words]:
    """Of each folder of models."""
    words = {}
    for folder in sorted(path.parent for path in (PACKAGE / "models").glob("*/__init__.py")):
        sources = [path.read_text() for path in folder.rglob("*.py")]
        config = folder / "config.py"
        words[folder.name] = Words(
            folder.name,
            set().union(*map(defined_classes, sources)),
            assigned_keys(config.read_text()) if config.exists() else set(),
        )
    return words


def nodes_without_docstrings(source: str) -> Iterator[ast.AST]:
    """Every node of the syntax tree but docstrings."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.add(first.value)
    return (node for node in ast.walk(tree) if node not in docstrings)


@lru_cache(maxsize=None)
def spoken_words(source: str) -> Tuple[Set[str], Set[str]]:
    """
    What a source file says outside docstrings.

    Returns:
        (identifiers, strings): names, attributes, keywords and imported names; and strings.
    """
    identifiers, strings = set(), set()
    for node in nodes_without_docstrings(source):
        if isinstance(node, ast.Name):
            identifiers.add(node.id)
        elif isinstance(node, ast.Attribute):
            identifiers.add(node.attr)
            if isinstance(node.value, (ast.Name, ast.Attribute)):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                identifiers.add(f"{owner}.{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg:
            # A key, where a node is made of arguments.
            identifiers.update((node.arg, f"keyword.{node.arg}"))
        elif isinstance(node, ast.alias):
            identifiers.add(node.name.split(".")[-1])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    return identifiers, strings


def violations(path: Path, words: Words, *, may_import: bool = False) -> Set[str]:
    """
    Words of a model that a file says.

    Args:
        path: of the file.
        words: of the model.
        may_import: the file may import the folder.
    """
    identifiers, strings = spoken_words(path.read_text())
    in_strings = {word for string in strings for word in re.findall(r"\w+", string)}
    attributes = {word.split(".")[-1] for word in identifiers if "." in word}
    found = words.classes & (identifiers | in_strings)
    # A name of upper case alone is a constant; a key is an attribute, or in a string.
    found |= words.keys & (attributes | in_strings)
    module = f"models.{words.folder}"
    imports = {".".join(name[1:3]) for name in imported_modules(path, PACKAGE)}
    if module in imports and not may_import:
        found.add(module)
    pattern = re.compile(rf"\b{re.escape(module)}\b")
    # As an attribute it is the folder's module, under whatever name its room was imported.
    if words.folder in attributes or any(pattern.search(string) for string in strings):
        found.add(module)
    return found


def judged_files() -> Iterator[Path]:
    """The package and the programs beside it; tests and docs are free."""
    yield from sorted(PACKAGE.rglob("*.py"))
    yield REPOSITORY / "train_net.py"
    yield REPOSITORY / "setup.py"
    for folder in ("datasets", "demo"):
        yield from sorted((REPOSITORY / folder).glob("*.py"))


def offenders() -> Dict[str, List[str]]:
    """File to the words of models that it says and must not."""
    models = words_of_models()
    found = {}
    for path in judged_files():
        is_inside = PACKAGE in path.parents
        name = path.relative_to(PACKAGE if is_inside else REPOSITORY).as_posix()
        parts = name.split("/")
        # A model may build on another.
        is_model = is_inside and parts[0] == "models" and parts[1] in models
        if is_model:
            continue
        may_import = is_inside and name in ENTRY_POINTS
        said = set().union(
            *(
                violations(
                    path,
                    words._replace(keys=set()) if is_inside and name in HISTORY else words,
                    may_import=may_import,
                )
                for words in models.values()
            )
        )
        if said:
            found[name] = sorted(said)
    return found


def test_nothing_outside_a_models_folder_knows_its_name():
    assert offenders() == {}


def test_the_words_of_the_models_are_found():
    words = words_of_models()
    assert "DeepLab2AxialDeepLab" in words["axial_deeplab"].classes
    assert "DeepLab2DeepLabV3PlusHead" in words["deeplab"].classes
    assert {"CENTER_HEAD", "INSTANCE_DECODER", "NMS_KERNEL", "SIGMA"} <= (
        words["panoptic_deeplab"].keys
    )
    assert {"MAX_DEEPLAB", "PIXEL_CHANNELS", "MASK_MODE", "MAX_THINGS"} <= (
        words["max_deeplab"].keys
    )


def _keys(node: CfgNode, prefix: Tuple[str, ...] = ()) -> Set[Tuple[str, ...]]:
    keys = set()
    for name, value in node.items():
        keys.add(prefix + (name,))
        if isinstance(value, CfgNode):
            keys |= _keys(value, prefix + (name,))
    return keys


def test_every_key_that_a_record_adds_is_or_stands_below_a_word_of_its_folder(monkeypatch):
    models, everything = words_of_models(), all_records()
    with_config = [(kind, record) for kind, record in everything if record.add_config]
    assert with_config

    def config_keys():
        cfg = get_cfg()
        add_deeplab2_config(cfg)
        return _keys(cfg)

    whole = config_keys()
    for kind, record in with_config:
        others = [pair for pair in everything if pair[1] is not record]
        monkeypatch.setattr(defaults, "all_records", lambda others=others: others)
        added = whole - config_keys()
        words = models[kind.__module__.split(".")[2]].keys
        assert added and [key for key in sorted(added) if not words & set(key)] == []
        # Nor does the folder forbid a word that all models share.
        assert words <= {name for key in added for name in key}


def test_models_build_on_each_other_without_a_circle():
    models = words_of_models()
    builds_on = {
        folder: {
            parts[2]
            for path in (PACKAGE / "models" / folder).rglob("*.py")
            for parts in imported_modules(path, PACKAGE)
            if parts[:2] == ("deeplab2_d2", "models") and len(parts) > 2 and parts[2] in models
        }
        - {folder}
        for folder in models
    }
    while builds_on:
        free = {folder for folder, others in builds_on.items() if not others & set(builds_on)}
        assert free, f"each of these imports another of them: {sorted(builds_on)}"
        builds_on = {folder: others for folder, others in builds_on.items() if folder not in free}


@pytest.mark.parametrize(
    "source, found",
    [
        ("from ..models.toy import x", {"models.toy"}),
        ("from ..models import toy", {"models.toy"}),
        ("def f():\n    import deeplab2_d2.models.toy.head", {"models.toy"}),
        ("from .. import models\nmodels.toy.build", {"models.toy"}),
        ("from deeplab2_d2 import models as rooms\nrooms.toy.build", {"models.toy"}),
        ("x = CfgNode(dict(TOY_HEAD=1))", {"TOY_HEAD"}),
        ("importlib.import_module('deeplab2_d2.models.toy')", {"models.toy"}),
        ("from ..models import DeepLab2Toy", {"DeepLab2Toy"}),
        ("def f(x: 'DeepLab2Toy'): ...", {"DeepLab2Toy"}),
        ("is_toy = cfg.MODEL.META_ARCHITECTURE == 'DeepLab2Toy'", {"DeepLab2Toy"}),
        ("x = cfg.MODEL.DEEPLAB2.TOY_HEAD.CHANNELS", {"TOY_HEAD"}),
        ("x = node['TOY_HEAD']", {"TOY_HEAD"}),
        ("raise ValueError(f'config key A.TOY_HEAD must be {x}')", {"TOY_HEAD"}),
        # A docstring may tell of models, and a constant and a longer word are others.
        ("'''DeepLab2Toy of models.toy has TOY_HEAD.'''", set()),
        ("def f():\n    'As in DeepLab2Toy.'", set()),
        ("TOY_HEAD = 1\nx = MY_TOY_HEAD", set()),
        ("x = 'DeepLab2ToyWriter', 'models.toyota', 'toy'", set()),
        ("from ..models import toy_box\nfrom ..toy import x", set()),
    ],
)
def test_a_models_words_are_found_in_all_their_spellings(source, found, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "engine" / "example.py"
    path.parent.mkdir()
    path.write_text(source)
    assert violations(path, Words("toy", {"DeepLab2Toy"}, {"TOY_HEAD"})) == found


def test_keys_and_classes_are_collected_from_what_a_file_defines():
    source = "node.TOY = CfgNode()\nnode.TOY.WIDTH = 3\nnode.size = SIZE = 1\nx = node.OTHER\n"
    assert assigned_keys(source) == {"TOY", "WIDTH"}
    assert defined_classes("class A:\n    class B: ...\nclass _C: ...\nD = 1") == {"A", "B"}
