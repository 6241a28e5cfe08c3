"""The error of a config that cannot be used."""


class ConfigError(ValueError):
    """A config file or an override that cannot be used; the message names it."""
