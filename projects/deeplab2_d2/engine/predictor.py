"""From one image to predictions, with the checkpoints and the resizing of this project."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from ..checkpoint import with_published_classes
from ..data import ResizeToRange
from .checkpointing import build_checkpointer


class DeepLab2Predictor(DefaultPredictor):
    """
    Detectron2's ``DefaultPredictor`` (BGR array in, one output dict out), resizing as DeepLab2.

    ``DefaultPredictor`` itself works too: it resizes with Pillow's antialiasing instead of aligned
    corners, and it does not know the classes of ``deeplab2://`` weights.
    """

    def __init__(self, cfg: CfgNode):
        # Not DefaultPredictor's own, which builds its own checkpointer.
        self.cfg = cfg = with_published_classes(cfg, cfg.MODEL.WEIGHTS).clone()
        self.model = build_model(self.cfg)
        self.model.eval()
        if len(cfg.DATASETS.TEST):
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        build_checkpointer(cfg, self.model).load(cfg.MODEL.WEIGHTS)
        self.aug = ResizeToRange(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
