"""From DeepLab2's experiment options to our config."""

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from detectron2.config import CfgNode, get_cfg

from ..config import add_deeplab2_config
from .option_rules import read_model, rules_without_model
from .option_view import ConfigBuilder, Options
from .run_option_rules import (
    read_class_map,
    read_eval_dataset,
    read_evaluator,
    read_losses,
    read_solver,
    read_train_dataset,
    read_trainer,
)

# What holds for every model of DeepLab2 and is no option there: RGB images, x / 127.5 - 1, and
# Detectron2's ignore label in the ground truth.
_CONSTANTS = {
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.PIXEL_MEAN": [127.5, 127.5, 127.5],
    "MODEL.PIXEL_STD": [127.5, 127.5, 127.5],
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 255,
    "INPUT.FORMAT": "RGB",
    "SOLVER.LR_SCHEDULER_NAME": "DeepLab2LRScheduler",
}


@dataclass(frozen=True)
class ImportedOptions:
    """
    Our config for DeepLab2's options, and where each option went.

    Attributes:
        values: every config key that is decided by the options, with its value.
        mapped: dotted path of an option that is set, to the config keys it decided.
        unsupported: dotted path of any other option that is set, to the reason.
    """

    values: Dict[str, Any]
    mapped: Dict[str, List[str]]
    unsupported: Dict[str, str]

    def to_config(self) -> CfgNode:
        """Detectron2's defaults and ours, with the values set."""
        cfg = get_cfg()
        add_deeplab2_config(cfg)
        for key, value in self.values.items():
            _set_key(cfg, key, value)
        return cfg


def import_options(options: Mapping[str, Any]) -> ImportedOptions:
    """
    Read DeepLab2's experiment options.

    Fields that are not set have the defaults of DeepLab2's ``*.proto`` files, as in DeepLab2 also
    inside ``instance_decoder_override``. Sections that are absent as a whole (the model, the
    losses, a dataset, the evaluator) leave our defaults.

    Args:
        options: ``ExperimentOptions`` as JSON, field names kept.

    Raises:
        ValueError: for an unknown field, a value of the wrong type or one that we cannot have.
    """
    root = Options("ExperimentOptions", options)
    builder = ConfigBuilder()
    for key, value in _CONSTANTS.items():
        builder.set(key, value)
    model, trainer = root.message("model_options"), root.message("trainer_options")
    rules = read_model(builder, model) if model.is_set else rules_without_model()
    if "MODEL.SEM_SEG_HEAD.NUM_CLASSES" in builder.values:
        read_class_map(builder, root.message("train_dataset_options"))
    read_trainer(builder, trainer)
    read_losses(builder, trainer.message("loss_options"), rules)
    read_solver(builder, trainer.message("solver_options"), rules)
    read_train_dataset(builder, root.message("train_dataset_options"), rules)
    read_eval_dataset(builder, root.message("eval_dataset_options"))
    read_evaluator(builder, root.message("evaluator_options"), rules)
    builder.refuse(root, "experiment_name", "runs are named by OUTPUT_DIR")

    leaves = root.set_leaves()
    # A rule that forgets an option must not hide it.
    forgotten = {
        leaf: "has no equivalent"
        for leaf in leaves
        if leaf not in builder.mapped and leaf not in builder.unsupported
    }
    return ImportedOptions(
        values=builder.values,
        mapped={leaf: builder.mapped[leaf] for leaf in leaves if leaf in builder.mapped},
        unsupported={**builder.unsupported, **forgotten},
    )


def config_from_options(options: Mapping[str, Any]) -> CfgNode:
    """
    Our config for DeepLab2's experiment options; see :func:`import_options`.

    Args:
        options: ``ExperimentOptions`` as JSON, field names kept.
    """
    return import_options(options).to_config()


def _set_key(cfg: CfgNode, key: str, value: Any) -> None:
    node_name, _, name = key.rpartition(".")
    node = cfg
    for part in node_name.split("."):
        node = node[part]
    if name not in node:
        raise KeyError(f"config key {key} does not exist")
    node[name] = type(node[name])(value) if isinstance(node[name], (tuple, list)) else value
