"""Files from elsewhere are read in the few places that take them for data."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = ("projects", "demo", "datasets", "train_net.py")
# Names of calls that can run what a file holds, and where each is made safe.
ALLOWED = {
    "merge_from_file": {"config/files.py"},
    "torch.load": {"checkpoint/pickled_file.py"},
    "pickle.load": set(),
    "pickle.loads": set(),
    "yaml.load": set(),
    "yaml.unsafe_load": set(),
    "yaml.full_load": set(),
    "np.load": set(),
    "eval": set(),
    "exec": set(),
    "extractall": set(),
}


def calls(source):
    """Names of the functions that are called, whole and without what is before the last dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            name = ast.unparse(node.func)
            yield name
            # A method's object may be anything; model.eval() is no eval.
            if isinstance(node.func, ast.Attribute) and node.func.attr not in ("eval", "exec"):
                yield node.func.attr


def sources():
    for name in PROGRAMS:
        path = REPOSITORY / name
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def test_nothing_that_runs_files_is_called_elsewhere():
    found = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in sources()
        for name in set(calls(path.read_text()))
        if name in ALLOWED and not any(str(path).endswith(place) for place in ALLOWED[name])
    ]
    assert found == []


@pytest.mark.parametrize(
    "source, name",
    [
        ("cfg.merge_from_file(path)", "merge_from_file"),
        ("torch.load(path)", "torch.load"),
        ("eval(text)", "eval"),
    ],
)
def test_such_calls_are_seen(source, name):
    assert name in calls(source)


def test_the_evaluation_mode_of_a_model_is_none():
    assert "eval" not in calls("model.eval()")
