"""Identity over frames, and what runs a model over a sequence."""

from .sequence_runner import SequenceRunner

__all__ = ["SequenceRunner"]
