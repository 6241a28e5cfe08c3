from .defaults import add_deeplab2_config
from .validation import validate_config

__all__ = ["add_deeplab2_config", "validate_config"]
