"""``timm://NAME`` and ``torchvision://NAME``: weights fetched by those libraries' own loaders."""

import logging
import os
import re
from typing import Any, Callable, Dict, List

from iopath.common.file_io import PathHandler
from torch import Tensor

from .saving import save_pth
from .zoo_cache import cache_folder

logger = logging.getLogger(__name__)

_TIMM, _TORCHVISION = "timm://", "torchvision://"
_NAME = re.compile(r"[A-Za-z0-9_.\-]+(?:/[A-Za-z0-9_]+)?")


def fetch(address: str) -> str:
    """
    The local file with a library's weights, under the library's names; made at the first call.

    Args:
        address: ``timm://NAME``, with or without one of timm's tags (``timm://resnet50.a1_in1k``),
            or ``torchvision://NAME`` for its default weights, ``torchvision://NAME/IMAGENET1K_V1``
            for others.

    Returns:
        Path of a .pth file in the cache, ``deeplab2://``'s.

    Raises:
        ImportError: without timm.
        ValueError: for a name that the library has no weights for.
        OSError: if they cannot be had; the message says where to put a file of them.
    """
    from filelock import FileLock

    library, name = address.split("://", 1)
    name = name[: -len(".pth")] if name.endswith(".pth") else name
    if not _NAME.fullmatch(name):
        raise ValueError(f"MODEL.WEIGHTS {address}: a name must be such as timm://resnet50")
    folder = cache_folder()
    path = os.path.join(folder, f"{library}.{name.replace('/', '.')}.pth")
    if os.path.isfile(path):
        return path
    os.makedirs(folder, exist_ok=True)
    load = {_TIMM: _load_timm, _TORCHVISION: _load_torchvision}[f"{library}://"]
    with FileLock(f"{path}.lock"):
        if not os.path.isfile(path):
            weights = _load(load, name, address, path)
            save_pth(path, {"model": weights, "source": address})
            logger.info("%s: %d weights in %s", address, len(weights), path)
    return path


def _load(
    load: Callable[[str], Dict[str, Tensor]], name: str, address: str, path: str
) -> Dict[str, Tensor]:
    try:
        return load(name)
    except OSError as error:
        raise OSError(
            f"MODEL.WEIGHTS {address} cannot be fetched ({type(error).__name__}): without a "
            f"network, put its state dict at {path}, or give a file of it as MODEL.WEIGHTS"
        ) from error


def _load_timm(name: str) -> Dict[str, Tensor]:
    try:
        import timm
    except ImportError as error:
        raise ImportError("timm:// needs timm: pip install 'timm>=1.0'") from error
    known = timm.list_pretrained(f"{name.partition('.')[0]}.*") + timm.list_pretrained(name)
    if not known or ("." in name and name not in known):
        names = sorted(set(known)) or "timm.list_pretrained()"
        raise ValueError(f"MODEL.WEIGHTS timm://{name} must be one of {names}")
    return timm.create_model(name, pretrained=True).state_dict()


def _load_torchvision(name: str) -> Dict[str, Tensor]:
    import torchvision

    model, _, tag = name.partition("/")
    known = torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        raise ValueError(f"MODEL.WEIGHTS torchvision://{name} must be one of {known}")
    weights = torchvision.models.get_model_weights(model)
    tags = [one.name for one in weights]
    if tag and tag not in tags:
        raise ValueError(f"MODEL.WEIGHTS torchvision://{name} must end in one of {tags}")
    return (weights[tag] if tag else weights.DEFAULT).get_state_dict(progress=True, check_hash=True)


class LibraryWeightsHandler(PathHandler):
    """Makes ``timm://NAME`` and ``torchvision://NAME`` paths that Detectron2 can load from."""

    def _get_supported_prefixes(self) -> List[str]:
        return [_TIMM, _TORCHVISION]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return fetch(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering=buffering)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return True  # As good as there; fetching says what is wrong if not.
