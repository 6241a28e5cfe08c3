import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deeplab2_d2 import compat

PROJECTS = Path(__file__).resolve().parents[1] / "projects"

# What the two releases write in the files that matter.
RELEASE_0_6 = {
    "data/transforms/transform.py": "from PIL import Image\ndef f(interp=Image.LINEAR): ...\n",
    "layers/deform_conv.py": "from detectron2 import _C\n",
}
MAIN = {
    "data/transforms/transform.py": "from PIL import Image\ndef f(interp=Image.BILINEAR): ...\n",
    "layers/deform_conv.py": "try:\n    from detectron2 import _C\nexcept ImportError:\n    pass\n",
}
INTERNAL_NAME = {
    **MAIN,
    "evaluation/cityscapes_evaluation.py": "def f():\n"
    "    from deeplearning.projects.cityscapesApi.cityscapesscripts.helpers import labels\n",
}
COMPILED = {"_C.py": "def nms(): ...\n"}

# Loads compat.py without the package, which would import much of Detectron2.
LOAD = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("compat", {compat.__file__!r})
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
"""
REPORT = """
import json, sys
from PIL import Image
if {old_pillow}:
    Image.LINEAR = Image.BILINEAR
elif hasattr(Image, "LINEAR"):
    del Image.LINEAR
import detectron2
def state():
    modules = {{name for name in sys.modules if "detectron2" in name}}
    return set(vars(Image)), set(vars(detectron2)), modules
before = state()
compat.make_detectron2_importable()
compat.make_detectron2_importable()
changed = [sorted(new - old) + sorted(old - new) for old, new in zip(before, state())]
print(json.dumps(changed))
"""


def run(code, *python_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, python_path))}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )


def changes(folder, files, old_pillow=False):
    """Names added to (PIL.Image, detectron2, sys.modules) where Detectron2 consists of `files`."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "detectron2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    result = run(LOAD + REPORT.format(old_pillow=old_pillow), folder)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "files, old_pillow",
    [
        ({**RELEASE_0_6, **COMPILED}, True),
        ({**MAIN, **COMPILED}, False),
        (MAIN, False),
    ],
    ids=["release 0.6, compiled, old Pillow", "main, compiled", "main, not compiled"],
)
def test_nothing_changes_where_detectron2_needs_nothing(tmp_path, files, old_pillow):
    image, detectron2, modules = changes(tmp_path, files, old_pillow)
    # Looking for the compiled module does not import it.
    assert (image, detectron2, modules) == ([], [], [])


def test_compiled_release_on_a_new_pillow_gets_linear_only(tmp_path):
    assert changes(tmp_path, {**RELEASE_0_6, **COMPILED}) == [["LINEAR"], [], []]


def test_release_without_compiled_operators_gets_a_placeholder_as_attribute_only(tmp_path):
    # `import detectron2._C` must go on failing: Detectron2's report of the environment needs that.
    assert changes(tmp_path, RELEASE_0_6, old_pillow=True) == [[], ["_C"], []]


def test_internal_name_of_cityscapes_scripts_leads_to_the_public_package(tmp_path):
    pytest.importorskip("cityscapesscripts")
    image, detectron2, modules = changes(tmp_path, INTERNAL_NAME)
    assert (image, detectron2, modules) == ([], [], [])
    code = LOAD + (
        "compat.make_detectron2_importable()\n"
        "import deeplearning.projects.cityscapesApi.cityscapesscripts.helpers.labels as internal\n"
        "import cityscapesscripts.helpers.labels as public\n"
        # One module, so that what is mended in one is mended in the other.
        "assert internal is public and public.__spec__.name == public.__name__\n"
    )
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_placeholder_names_the_operator_that_is_missing():
    placeholder = compat._CompiledModulePlaceholder("detectron2._C")
    with pytest.raises(ImportError, match=r"detectron2\._C\.deform_conv_forward .* built without"):
        placeholder.deform_conv_forward
    # Python's own protocols ask for names like this one and take AttributeError for "no".
    assert not hasattr(placeholder, "__wrapped__")


def test_absent_detectron2_is_one_sentence_that_says_how_to_install_it():
    hide = (
        "import importlib.util as u, sys\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'detectron2' else find(name, *a)\n"
        "import deeplab2_d2\n"
    )
    result = run(hide, PROJECTS)
    assert result.returncode == 1
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: deeplab2_d2 needs Detectron2, which is not installed")
    assert "pip install 'git+https://github.com/facebookresearch/detectron2.git'" in last_line


def test_absent_panopticapi_is_met_at_use_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="panopticapi, which is not installed: run `pip install"):
        compat.require_panopticapi()


def test_detectron2_that_is_imported_first_is_mended_by_the_file_that_make_setup_writes(tmp_path):
    script = (PROJECTS.parent / "scripts" / "setup_env.sh").read_text()
    (line,) = re.findall("echo '(import _deeplab2_d2_compat.*)'", script)
    (tmp_path / "_deeplab2_d2_compat.py").write_text(Path(compat.__file__).read_text())
    (tmp_path / "first.pth").write_text(line)
    code = f"import site, sys; site.addsitedir({str(tmp_path)!r})\n"
    code += "assert not any(name.startswith('detectron2') for name in sys.modules)\n"
    # Neither imports on today's Pillow and PyTorch by itself.
    code += "import detectron2.data, detectron2.modeling, deeplab2_d2"
    result = run(code, PROJECTS)
    assert result.returncode == 0, result.stderr


def test_what_needs_no_caffe2_of_detectron2s_export_is_there_and_the_rest_says_why_not():
    code = (
        "import deeplab2_d2, detectron2.utils.analysis, detectron2.export as export\n"
        "assert export.TracingAdapter.__module__ == 'detectron2.export.flatten'\n"
        "if hasattr(export, 'Caffe2Tracer'): export.Caffe2Tracer(1)\n"
    )
    result = run(code, PROJECTS)
    last = (result.stderr.splitlines() or [""])[-1]
    expected = "ImportError: detectron2.export.Caffe2Tracer needs Caffe2, which PyTorch has no more"
    assert result.returncode == 0 or last.startswith(expected), result.stderr


IMPORTS = [
    "import deeplab2_d2, deeplab2_d2.engine",
    "import detectron2.projects.panoptic_deeplab",
]
ADD_CONFIGS = [
    "from deeplab2_d2.config import add_deeplab2_config as ours; ours(cfg)",
    "from detectron2.projects.panoptic_deeplab import add_panoptic_deeplab_config as d2s; d2s(cfg)",
]


@pytest.mark.parametrize("first", [0, 1], ids=["ours first", "Detectron2's first"])
def test_lives_beside_detectron2s_own_project_in_either_order(first):
    lines = [
        # Release 0.6 without its compiled operators cannot be imported before it is mended.
        LOAD + "compat.make_detectron2_importable()",
        IMPORTS[first],
        IMPORTS[1 - first],
        "from detectron2.config import get_cfg",
        "cfg = get_cfg()",
        ADD_CONFIGS[first],
        ADD_CONFIGS[1 - first],
        "from detectron2.modeling import META_ARCH_REGISTRY as registry",
        "assert registry.get('PanopticDeepLab').__module__.startswith('detectron2')",
        "assert registry.get('DeepLab2PanopticDeepLab').__module__.startswith('deeplab2_d2')",
        "print(cfg.dump())",
    ]
    code = "\n".join(lines)
    result = run(code, PROJECTS)
    assert result.returncode == 0, result.stderr

    cfg = yaml.safe_load(result.stdout)
    assert cfg["MODEL"]["DEEPLAB2"]["LOSS"]["CENTER"] == [200.0, 1.0]
    assert cfg["MODEL"]["PANOPTIC_DEEPLAB"]["CENTER_THRESHOLD"] == 0.1
    # Both projects add to INPUT and SOLVER; each keeps its own.
    assert cfg["INPUT"]["GAUSSIAN_SIGMA"] == 10
    assert cfg["INPUT"]["DEEPLAB2"]["SIGMA"] == 8.0
