"""From what a user calls a model (a name of the zoo, a config, a checkpoint) to its config."""

import os
from difflib import get_close_matches
from typing import Any, List, Mapping, Optional, Sequence, Union

import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from ..checkpoint import newest_of_folder, read_config_text
from ..checkpoint.zoo import get_config_file
from ..checkpoint.zoo_table import PREFIX, find_row, short_names, zoo_rows
from .config_error import ConfigError
from .setup import config_of_text, load_config, override_config

FilePath = Union[str, "os.PathLike[str]"]
ModelSource = Union[FilePath, CfgNode]
Device = Union[str, torch.device]
Options = Union[Sequence[Any], Mapping[str, Any]]

_CONFIG_ENDINGS = (".yaml", ".yml")
# Beside the checkpoints of a training: what Detectron2 has written at its start.
_CONFIG_OF_RUN = "config.yaml"


def config_of_model(
    source: ModelSource,
    *,
    weights: Optional[FilePath] = None,
    opts: Options = (),
    device: Optional[Device] = None,
    random_weights: bool = False,
) -> CfgNode:
    """
    The frozen config of a model, with its weights and device.

    Args:
        source: a name of the zoo (with or without ``deeplab2://``), a YAML file, a checkpoint of a
            training or its folder, or a config.
        weights: MODEL.WEIGHTS; None: those of ``source``.
        opts: config overrides, ``[KEY, VALUE, ...]`` or a dict.
        device: MODEL.DEVICE; None: what the config or ``opts`` say, but the CPU where there is no
            GPU.
        random_weights: of a name of the zoo, no weights are downloaded.

    Raises:
        ConfigError: if there is no such model, or its config cannot be used.
    """
    overrides = _as_list(opts)
    if isinstance(source, CfgNode):
        cfg = source.clone()
        cfg.defrost()
        override_config(cfg, overrides)
    else:
        cfg = _config_of_name(os.fspath(source), overrides, random_weights)
    if weights is not None:
        cfg.MODEL.WEIGHTS = os.fspath(weights)
    if device is not None:
        cfg.MODEL.DEVICE = str(device)
    elif cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


def _as_list(opts: Options) -> List[Any]:
    if isinstance(opts, Mapping):
        return [word for pair in opts.items() for word in pair]
    return list(opts)


def _config_of_name(name: str, overrides: List[Any], random_weights: bool) -> CfgNode:
    if name.startswith(PREFIX) or name in _zoo_names():
        return _config_of_zoo(name, overrides, random_weights)
    if name.endswith(_CONFIG_ENDINGS):
        return load_config(name, overrides)
    if "://" in name or os.path.exists(name) or os.path.exists(name + ".index"):
        return _config_of_checkpoint(name, overrides)
    near = get_close_matches(name, _zoo_names(), n=3, cutoff=0.5)
    hint = f"near it are {', '.join(near)}" if near else "no name is near it"
    raise ConfigError(
        f"a model must be a name of the zoo, a config file or a checkpoint, got {name!r}: there is "
        f"no such file, and of the zoo's names {hint}; python -m deeplab2_d2.checkpoint.zoo lists "
        "them"
    )


def _zoo_names() -> List[str]:
    return [*short_names(), *(row.name for row in zoo_rows())]


def _config_of_zoo(name: str, overrides: List[Any], random_weights: bool) -> CfgNode:
    name = name[len(PREFIX) :] if name.startswith(PREFIX) else name
    try:
        row = find_row(name)
        path = get_config_file(row.name)
    except (KeyError, ValueError) as error:
        raise ConfigError(str(error.args[0])) from error
    weights = "" if random_weights else PREFIX + row.name
    return load_config(path, ["MODEL.WEIGHTS", weights, *overrides])


def _config_of_checkpoint(name: str, overrides: List[Any]) -> CfgNode:
    path = PathManager.get_local_path(name)
    if os.path.isdir(path):
        found = newest_of_folder(path)
        if not found:
            raise ConfigError(
                f"{name} has no checkpoint of a training with its config; give the config: "
                f"load_model(CONFIG, weights={name!r})"
            )
        path = found
    text, source = read_config_text(path), f"the config in {path}"
    beside = os.path.join(os.path.dirname(path), _CONFIG_OF_RUN)
    if text is None and os.path.isfile(beside):
        # Read as every config: a limit on its size, and nothing in it runs.
        cfg, source = load_config(beside), beside
    elif text is not None:
        cfg = config_of_text(text, source)
    else:
        raise ConfigError(
            f"{name} does not hold its config, and there is no {beside}; give the config: "
            f"load_model(CONFIG, weights={name!r})"
        )
    cfg.MODEL.WEIGHTS = path
    # Where and how it was trained is not where it is used.
    cfg.MODEL.DEVICE = "cuda"
    cfg.SOLVER.DEEPLAB2.COMPILE = False
    return override_config(cfg, overrides, source)
