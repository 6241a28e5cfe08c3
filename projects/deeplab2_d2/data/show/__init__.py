"""The command that draws training samples; see ``__main__.py``."""
