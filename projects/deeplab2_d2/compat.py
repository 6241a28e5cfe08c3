"""
Makes the installed Detectron2 importable on today's PyTorch and Pillow.

A complete build of release 0.6 on an old Pillow needs nothing, and then nothing is changed. Four
things are mended, each only if the installed files ask for it:

* ``PIL.Image.LINEAR``, which release 0.6 reads at import, is gone since Pillow 10. It was another
  name of ``BILINEAR``.
* Release 0.6 imports the compiled module ``detectron2._C`` unconditionally. Where it was not built,
  a placeholder takes its place, and each use of it fails with a sentence that says so.
* Main's Cityscapes evaluators import cityscapesScripts by the name that it has inside Meta,
  ``deeplearning.projects.cityscapesApi.cityscapesscripts``. That name is led to the public package.
* Release 0.6's ``detectron2.export``, which ``detectron2.utils.analysis`` needs, imports Caffe2,
  which PyTorch has no more. Its functions for Caffe2 are replaced by ones that say so.

Detectron2 has to be imported after that: by a script after ``deeplab2_d2``. An environment of
``make setup`` mends it whenever it is imported first (:func:`mend_on_import`).

This module imports nothing of ours, so that every room may use it.
"""

import functools
import importlib.abc
import importlib.util
import re
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Optional

_DETECTRON2_COMMAND = "pip install 'git+https://github.com/facebookresearch/detectron2.git'"
_INTERNAL_CITYSCAPES = "deeplearning.projects.cityscapesApi"
_PANOPTICAPI_COMMAND = "pip install 'git+https://github.com/cocodataset/panopticapi.git'"


def make_detectron2_importable() -> None:
    """
    Mend what the installed Detectron2 needs before its modules are imported. Idempotent.

    Raises:
        ImportError: if Detectron2 is not installed; the message says how to install it.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"deeplab2_d2 needs Detectron2, which is not installed: run `{_DETECTRON2_COMMAND}` "
            "(other ways are in docs/install.md).",
            name="detectron2",
        )
    root = Path(list(spec.submodule_search_locations)[0])
    _mend_pillow(root)
    _mend_compiled_module(root)
    _mend_cityscapes_name(root)
    _mend_export(root)


def mend_on_import() -> None:
    """
    Mend Detectron2 when the first of its modules is imported, by whatever script.

    An environment calls it at its start, from a .pth file: it imports nothing.
    """
    if not any(isinstance(finder, _FirstImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _FirstImport())


class _FirstImport(importlib.abc.MetaPathFinder):
    """Finds nothing, but notices the first import of a module of Detectron2."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.startswith("detectron2."):
            sys.meta_path.remove(self)
            make_detectron2_importable()


def require_panopticapi() -> None:
    """
    Check that COCO's panoptic API can be imported. To be called where it is about to be used.

    Raises:
        ImportError: if it is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("panopticapi") is None:
        raise ImportError(
            "Panoptic quality is computed by panopticapi, which is not installed: "
            f"run `{_PANOPTICAPI_COMMAND}`.",
            name="panopticapi",
        )


def _source_matches(path: Path, pattern: str) -> bool:
    return path.is_file() and re.search(pattern, path.read_text(), re.MULTILINE) is not None


def _mend_pillow(detectron2_root: Path) -> None:
    transforms = detectron2_root / "data" / "transforms" / "transform.py"
    if not _source_matches(transforms, r"\bImage\.LINEAR\b"):
        return
    from PIL import Image

    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.BILINEAR  # type: ignore[attr-defined]


def _mend_compiled_module(detectron2_root: Path) -> None:
    # Main imports it inside a `try`, and must go on seeing that it is absent.
    imports_it_unconditionally = _source_matches(
        detectron2_root / "layers" / "deform_conv.py", r"^from detectron2 import _C"
    )
    if not imports_it_unconditionally:
        return
    import detectron2

    if hasattr(detectron2, "_C") or importlib.util.find_spec("detectron2._C") is not None:
        return
    # As an attribute only: `from detectron2 import _C` finds it, while `import detectron2._C` goes
    # on failing, by which Detectron2's report of the environment knows that nothing is compiled.
    detectron2._C = _CompiledModulePlaceholder("detectron2._C")


def _mend_export(detectron2_root: Path) -> None:
    folder = detectron2_root / "export"
    needs_caffe2 = _source_matches(folder / "__init__.py", r"^from \.api import \*")
    needs_caffe2 = needs_caffe2 and _source_matches(folder / "api.py", r"^from caffe2\b")
    is_mended = any(isinstance(finder, _ExportFinder) for finder in sys.meta_path)
    if needs_caffe2 and not is_mended and importlib.util.find_spec("caffe2") is None:
        sys.meta_path.insert(0, _ExportFinder())


def _mend_cityscapes_name(detectron2_root: Path) -> None:
    evaluation = detectron2_root / "evaluation" / "cityscapes_evaluation.py"
    if not _source_matches(evaluation, rf"\b{re.escape(_INTERNAL_CITYSCAPES)}\b"):
        return
    is_mended = any(isinstance(finder, _CityscapesAliasFinder) for finder in sys.meta_path)
    if not is_mended and importlib.util.find_spec("deeplearning") is None:
        # First, or the public package's folder would be searched and a second copy loaded.
        sys.meta_path.insert(0, _CityscapesAliasFinder())


class _CityscapesAliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports ``deeplearning.projects.cityscapesApi.X`` as ``X`` itself, not as a second copy."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> Optional[ModuleSpec]:
        if fullname.startswith(_INTERNAL_CITYSCAPES + ".cityscapesscripts"):
            return ModuleSpec(fullname, self)
        is_parent = f"{_INTERNAL_CITYSCAPES}.".startswith(fullname + ".")
        return ModuleSpec(fullname, self, is_package=True) if is_parent else None

    def create_module(self, spec: ModuleSpec) -> Optional[types.ModuleType]:
        public_name = spec.name[len(_INTERNAL_CITYSCAPES) + 1 :]
        if not public_name:
            return None  # a parent, which is empty
        module = importlib.import_module(public_name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        # The import system has put the alias's spec into the module, which has one of its own.
        if module.__spec__ is not None and module.__spec__.loader_state is not None:
            module.__spec__ = module.__spec__.loader_state


class _ExportFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Puts functions that say what is missing in the place of ``detectron2.export.api``."""

    _NAMES = ("Caffe2Model", "Caffe2Tracer", "add_export_config", "export_caffe2_model")

    def find_spec(self, fullname: str, path: object, target: object = None) -> Optional[ModuleSpec]:
        return ModuleSpec(fullname, self) if fullname == "detectron2.export.api" else None

    def exec_module(self, module: types.ModuleType) -> None:
        for name in (*self._NAMES, "export_onnx_model"):
            setattr(module, name, functools.partial(_refuse_caffe2, name))


def _refuse_caffe2(name: str, *arguments: object, **keywords: object) -> None:
    raise ImportError(
        f"detectron2.export.{name} needs Caffe2, which PyTorch has no more: use "
        "detectron2.export.TracingAdapter or torch.export",
        name="caffe2",
    )


class _CompiledModulePlaceholder(types.ModuleType):
    """Stands for ``detectron2._C``. Reading anything of it raises ImportError."""

    def __getattr__(self, name: str) -> object:
        # Python's own protocols (copy, inspect, import) ask for these and expect AttributeError.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise ImportError(
            f"detectron2._C.{name} is a compiled operator of Detectron2, and the installed "
            "Detectron2 was built without its compiled operators.",
            name="detectron2._C",
        )
