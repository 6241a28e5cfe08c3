"""From one image to predictions, with the checkpoints and the resizing of this project."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor

from ..data import ResizeToRange
from .setup import ConfigError
from .testing import load_test_model


class DeepLab2Predictor(DefaultPredictor):
    """
    Detectron2's ``DefaultPredictor`` (BGR array in, one output dict out), resizing as DeepLab2.

    ``DefaultPredictor`` itself works too: it resizes with Pillow's antialiasing instead of aligned
    corners, and it does not know the classes of ``deeplab2://`` weights.
    """

    def __init__(self, cfg: CfgNode, *, allow_random_weights: bool = False):
        """
        Args:
            cfg: weights, views and output stride as ``--eval-only`` takes them.
            allow_random_weights: let what the weights lack be random.

        Raises:
            ConfigError: if DATASETS.TEST names no dataset, whose classes the outputs would have, or
                if a weight of the model would be random.
        """
        # Not DefaultPredictor's own, which builds its own checkpointer.
        if not cfg.DATASETS.TEST:
            raise ConfigError("config key DATASETS.TEST must name a dataset, got ()")
        self.cfg = cfg.clone()
        self.model = load_test_model(self.cfg, allow_random_weights=allow_random_weights)
        self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        self.aug = ResizeToRange(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
