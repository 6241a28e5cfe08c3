"""A model run over sequences, frame by frame: whoever calls it keeps its state."""

from typing import Any, Dict, List, Optional, Set

from torch import nn


class SequenceRunner(nn.Module):
    """
    Hands what a model's output of one frame has as ``state`` to the sample of the next one.

    A sample with a ``sequence`` is a frame of it; the first of a sequence has no ``state``. The
    model itself keeps nothing, so that two runners of one model never mix their streams. Samples
    without a sequence go through as they are.
    """

    def __init__(self, model: nn.Module):
        """
        Args:
            model: takes and returns lists of dicts, in evaluation.
        """
        super().__init__()
        self.model = model
        self._begun: Set[Any] = set()
        self._sequence: Optional[Any] = None
        self._frame: Optional[Any] = None
        self._state: Optional[Any] = None
        self.train(model.training)

    def forward(self, batched_inputs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """
        Args:
            batched_inputs: frames in their order; with ``frame``, that has to grow.

        Returns:
            The model's outputs without their ``state``.

        Raises:
            ValueError: if a frame comes after a later one of its sequence, or after one of another
                sequence that began later.
        """
        outputs: List[Dict[str, Any]] = []
        for sample in batched_inputs:
            if sample.get("sequence") is None:
                outputs += self.model([sample])
                continue
            self._begin(sample)
            if self._state is not None:
                sample = {**sample, "state": self._state}
            (output,) = self.model([sample])
            self._state = output.get("state")
            outputs.append({name: value for name, value in output.items() if name != "state"})
        return outputs

    def train(self, mode: bool = True) -> "SequenceRunner":
        """As of any module. It forgets its stream, because a dataset begins with such a call."""
        self._sequence = self._frame = self._state = None
        self._begun.clear()
        return super().train(mode)

    def _begin(self, sample: Dict[str, Any]) -> None:
        sequence, frame = sample["sequence"], sample.get("frame")
        if sequence != self._sequence:
            if sequence in self._begun:
                raise ValueError(
                    f"frames of a sequence must follow each other, got one of {sequence!r} after "
                    f"one of {self._sequence!r}; a runner has one stream"
                )
            self._begun.add(sequence)
            self._state = None
        elif frame is not None and self._frame is not None and frame <= self._frame:
            raise ValueError(
                f"frames of sequence {sequence!r} must come in their order, "
                f"got {frame!r} after {self._frame!r}"
            )
        self._sequence, self._frame = sequence, frame
