"""A real training whose evaluations have the scores of a script, also as a job of processes."""

import json
import sys
from pathlib import Path

import torch
from detectron2.utils import comm

from deeplab2_d2.engine import DeepLab2Trainer, launch, load_config

CONFIG = str(
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
OPTIONS = (
    "MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER 1.0 DATALOADER.NUM_WORKERS 0 SEED 3 "
    "SOLVER.IMS_PER_BATCH 2 SOLVER.WARMUP_ITERS 0 INPUT.CROP.SIZE [33,33] SOLVER.MAX_ITER 8 "
    "SOLVER.CHECKPOINT_PERIOD 3 TEST.EVAL_PERIOD 1 SOLVER.DEEPLAB2.BEST_METRIC panoptic_seg/PQ"
).split()


class ScriptedTrainer(DeepLab2Trainer):
    """
    Attributes:
        script: the scores of the evaluations, by the number of weights' updates before each.
        seen: a copy of the weights at each evaluation.
    """

    script = {}
    seen = {}
    updates = 0

    def run_step(self):
        super().run_step()
        type(self).updates = self.iter + 1

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        cls.seen[cls.updates] = {k: v.clone() for k, v in model.state_dict().items()}
        score = cls.script[cls.updates]
        # As evaluators: the other processes have no results.
        return {"panoptic_seg": {"PQ": score, "SQ": 1.0}} if comm.is_main_process() else None


def train(folder, script, *options, resume=False):
    """The class that has trained; ``script`` are the scores of evaluations 1, 2, ..."""

    class Trainer(ScriptedTrainer):
        pass

    Trainer.script, Trainer.seen = dict(enumerate(script, 1)), {}
    torch.manual_seed(0)
    cfg = load_config(CONFIG, [*OPTIONS, "OUTPUT_DIR", str(folder), *map(str, options)])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return Trainer


def main(arguments):
    trained = train(arguments["folder"], arguments["script"], *arguments["options"])
    name = f"rank{comm.get_rank()}.json"
    Path(arguments["folder"], name).write_text(json.dumps(sorted(trained.seen)))


if __name__ == "__main__":
    launch(main, json.loads(sys.argv[1]))
