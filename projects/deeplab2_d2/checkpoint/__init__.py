from .deeplab2_options import ImportedOptions, config_from_options, import_options

__all__ = ["ImportedOptions", "config_from_options", "import_options"]
