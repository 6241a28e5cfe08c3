"""The error that configs and command lines end in."""


class ConfigError(ValueError):
    """A config file or an override that cannot be used; the message names it."""
