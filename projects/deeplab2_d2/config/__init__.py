"""Config keys that all models share, and checks of values. A model's own stand in its folder."""

from .checks import require, require_one_of
from .defaults import add_deeplab2_config, decoder_node, head_node, outputs_from_config
from .files import merge_config_file, merge_config_text
from .validation import check_decoder, check_loss_term, validate_config

__all__ = [
    "add_deeplab2_config",
    "check_decoder",
    "check_loss_term",
    "decoder_node",
    "head_node",
    "merge_config_file",
    "merge_config_text",
    "outputs_from_config",
    "require",
    "require_one_of",
    "validate_config",
]
