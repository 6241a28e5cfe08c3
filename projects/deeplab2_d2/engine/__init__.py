"""Entry points: setup, trainer, launcher. The room that turns config strings into objects."""

from .launcher import launch, run
from .lazy_training import run_lazy
from .setup import (
    ConfigError,
    add_overrides,
    add_random_weights_flag,
    argument_parser,
    load_config,
    setup,
)
from .trainer import DeepLab2Trainer

__all__ = [
    "ConfigError",
    "DeepLab2Trainer",
    "add_overrides",
    "add_random_weights_flag",
    "argument_parser",
    "launch",
    "load_config",
    "run",
    "run_lazy",
    "setup",
]
