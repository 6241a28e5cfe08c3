"""Importing the package: needs no extension, says nothing, and registers only names of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "projects" / "deeplab2_d2"

# Runs in a process of its own, so that what this one has imported does not matter.
SCRIPT = r"""
import builtins, gc, importlib, json, logging, pkgutil, sys, warnings

said = []
class Listener(logging.Handler):
    def emit(self, record):
        said.append([record.pathname, record.getMessage()])
logging.getLogger().addHandler(Listener())
logging.getLogger().setLevel(logging.DEBUG)
warnings.simplefilter("always")
def warned(message, category, filename, *rest):
    said.append([filename, str(message)])
warnings.showwarning = warned
def heard(*words, **rest):
    said.append([sys._getframe(1).f_code.co_filename, " ".join(map(str, words))])
builtins.print = heard

import torch
loaded, load_library = [], torch.ops.load_library
torch.ops.load_library = lambda path: (loaded.append(str(path)), load_library(path))

import deeplab2_d2
engine_at_import = "deeplab2_d2.engine" in sys.modules
deeplab2_d2.load_model
engine_when_used = "deeplab2_d2.engine" in sys.modules
for module in pkgutil.walk_packages(deeplab2_d2.__path__, "deeplab2_d2."):
    # The kernels are no module of Python, though their file's name looks like one.
    if not module.name.endswith(("__main__", "._kernels")):
        importlib.import_module(module.name)

from fvcore.common.registry import Registry
registered = []
for registry in [found for found in gc.get_objects() if isinstance(found, Registry)]:
    for name, entry in registry:
        if entry.__module__.startswith("deeplab2_d2"):
            registered.append(name)
sys.stdout.write(json.dumps({"said": said, "loaded": loaded, "registered": registered,
    "engine": [engine_at_import, engine_when_used]}))
"""


@pytest.fixture(scope="module")
def imported():
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "DEEPLAB2_D2_REQUIRE_OPS": "0"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment
    )
    if result.returncode != 0:
        pytest.fail(f"a module cannot be imported:\n{result.stderr}", pytrace=False)
    return json.loads(result.stdout)


def test_no_module_loads_the_extension_at_import(imported):
    assert [path for path in imported["loaded"] if "deeplab2_d2" in path] == []


def test_the_engine_is_imported_when_a_model_is_loaded(imported):
    assert imported["engine"] == [False, True]


def test_no_module_logs_warns_or_prints_at_import(imported):
    assert [entry for entry in imported["said"] if "deeplab2_d2" in entry[0]] == []


def test_registered_names_are_our_own(imported):
    assert imported["registered"], "nothing of ours is registered after importing every module"
    foreign = [
        name
        for name in imported["registered"]
        if not name.startswith(("DeepLab2", "build_deeplab2_"))
    ]
    assert foreign == []
