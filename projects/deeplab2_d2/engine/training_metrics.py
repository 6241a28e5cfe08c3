"""What a model reports of its training beside the losses."""

from detectron2.engine import HookBase

from ..models import Segmenter


class TrainingMetrics(HookBase):
    """
    Keep ``training_metrics`` of a model as scalars, every so often.

    Not at every step: reading them makes the host wait for the GPU.
    """

    def __init__(self, model: Segmenter, period: int):
        """
        Args:
            model: of this process, not wrapped.
            period: iterations between two readings; that of the writers.
        """
        self.model = model
        self.period = period

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period == 0:
            for name, value in self.model.training_metrics.items():
                # As they are: one value in a period has no median.
                self.trainer.storage.put_scalar(name, float(value), smoothing_hint=False)
