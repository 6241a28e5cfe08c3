"""An :class:`ImageModel` as a file, of any batch and any size of the images."""

import contextlib
import importlib.util
import logging
import warnings
from inspect import signature
from typing import Any, Callable, Dict, Iterator, Mapping, Sequence

import torch
import torch._dynamo
from torch import Tensor

from ...structures import atomic_path
from ..config_error import ConfigError
from .image_model import ImageModel

# The name of the description within a file.
DESCRIPTION = "deeplab2_d2.json"
INPUT = "image"
# The oldest that has every operator here (ScatterElements with a minimum).
OPSET = 18
_INSTALL = "pip install onnx onnxruntime"
_ONNX_PACKAGES = ("onnx",)
_SIZES = {0: "batch", 2: "height", 3: "width"}

# An example image to a file: path, module, example, description.
Writer = Callable[[str, ImageModel, Tensor, str], None]


def require_packages(names: Sequence[str], purpose: str) -> None:
    """
    Raises:
        ImportError: if one is not installed; the message says how to install it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f"{purpose} needs the package {name}, which is not installed: run `{_INSTALL}`",
                name=name,
            )


def trace(model: ImageModel, example: Tensor) -> Any:
    """
    The program of a module, for every batch and size.

    Args:
        model: what is exported.
        example: (N, C, H, W) image of at least 2 images and of no special size.

    Raises:
        ConfigError: if something in the model cannot be traced.
    """
    dim = getattr(torch.export, "Dim", None)
    if not hasattr(dim, "DYNAMIC"):
        raise ConfigError(
            f"--format onnx and torch need PyTorch 2.6 or newer, this is {torch.__version__}"
        )
    sizes = {0: dim.DYNAMIC, 2: dim.DYNAMIC, 3: dim.DYNAMIC}  # type: ignore[union-attr]
    # With gradients on, norms stay operations of their own, as optimizers of graphs expect them.
    # The cache of fake tensors costs more than it saves where sizes are symbols.
    without_cache = torch._dynamo.config.patch(fake_tensor_cache_enabled=False)
    with torch.enable_grad(), _quiet(), without_cache:
        try:
            return torch.export.export(model, (example,), dynamic_shapes=(sizes,), strict=False)
        except Exception as error:  # torch.export raises what it met, of any type.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"torch.export cannot export this model: {reason}") from error


def write_onnx(path: str, model: ImageModel, example: Tensor, description: str) -> None:
    """An ONNX file of standard operators; its metadata_props hold the description."""
    require_packages(_ONNX_PACKAGES, "--format onnx")
    import onnx

    # By the tracer: torch.export takes minutes of symbolic sizes for a network with attention.
    has_choice = "dynamo" in signature(torch.onnx.export).parameters
    by_tracer: Dict[str, Any] = {"dynamo": False} if has_choice else {}
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                model,
                (example,),
                path,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(model.names),
                dynamic_axes={INPUT: _SIZES, **_output_sizes(model)},
                **by_tracer,
            )
    except RuntimeError as error:  # Of which an operator without a counterpart is one.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"torch.onnx cannot export this model: {reason}") from error
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {DESCRIPTION: description})
    onnx.checker.check_model(proto)
    check_operators(proto)
    onnx.save(proto, path)


def _output_sizes(model: ImageModel) -> Dict[str, Dict[int, str]]:
    """Which axes of the outputs depend on the input, and a name for each."""
    if model.graph is not None:
        return {name: {0: "batch", 1: "height", 2: "width"} for name in model.names}
    sizes = {}
    for name in model.names:
        is_map = model.kinds[name] != "slot_logits"
        axes = {2: f"{name}_height", 3: f"{name}_width"} if is_map else {}
        sizes[name] = {0: "batch", **axes}
    return sizes


def check_operators(proto: Any) -> None:
    """
    Raises:
        ConfigError: if an ONNX model has an operator that is no standard one.
    """
    domains = {opset.domain for opset in proto.opset_import} - {"", "ai.onnx"}
    used = {node.domain for node in proto.graph.node} & domains
    if used:
        raise ConfigError(f"the ONNX file must have standard operators alone, got {sorted(used)}")


def write_torch(path: str, model: ImageModel, example: Tensor, description: str) -> None:
    """An archive for ``torch.export.load``; it holds PyTorch's own operators alone."""
    program = trace(model, example)
    own = {str(node.target) for node in program.graph.nodes if "deeplab2_d2" in str(node.target)}
    assert not own, own
    with _quiet():
        torch.export.save(program, path, extra_files={DESCRIPTION: description})


def write_torchscript(path: str, model: ImageModel, example: Tensor, description: str) -> None:
    """A traced module for ``torch.jit.load`` and for C++."""
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(model, (example,), check_trace=False)
        torch.jit.save(traced, path, _extra_files={DESCRIPTION: description})


class Format:
    """A kind of file: its ending and how it is written."""

    def __init__(self, ending: str, writer: Writer):
        self.ending = ending
        self.writer = writer


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", write_onnx),
    "torch": Format(".pt2", write_torch),
    "torchscript": Format(".pt", write_torchscript),
}


@contextlib.contextmanager
def write(path: str, kind: str, model: ImageModel, example: Tensor, text: str) -> Iterator[str]:
    """
    Write a file beside ``path``, which it becomes when the block succeeds.

    Args:
        path: of the format's ending.
        kind: of FORMATS.
        model, example: see :func:`trace`.
        text: the description.
    """
    ending = FORMATS[kind].ending
    if not path.endswith(ending):
        raise ConfigError(f"--output must end in {ending} for --format {kind}, got {path!r}")
    with atomic_path(path) as temporary:
        FORMATS[kind].writer(temporary, model, example, text)
        yield temporary


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes that exporters make of their own insides."""
    loggers: Dict[str, int] = {}
    for name in (
        "torch.onnx",
        "torch.export",
        "onnxscript",
        "onnx_ir",
        "torch.fx",
        "torch.__trace",
    ):
        loggers[name] = logging.getLogger(name).level
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
