"""
Of each model one evaluation, then one step of training, in each process of a job.

The argument is a JSON file with the arguments of each model. What a process has goes to a file in
the model's folder.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from detectron2.utils import comm

from deeplab2_d2.engine import DeepLab2Trainer, argument_parser, launch, setup


def main(args: argparse.Namespace) -> None:
    for arguments in json.loads(args.models.read_text()):
        evaluate_and_train(argument_parser().parse_args(arguments))


def evaluate_and_train(args: argparse.Namespace) -> None:
    cfg = setup(args)
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load()
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # processes draw different masks
    model = trainer.checkpointer.model
    scores = DeepLab2Trainer.test(cfg, model) or None
    model.train()
    trainer.train()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    result = {
        "model": model.state_dict(),
        "gradients": gradients,
        "scores": scores,
    }
    torch.save(result, Path(cfg.OUTPUT_DIR) / f"rank{comm.get_rank()}.pth")


if __name__ == "__main__":
    launch(main, argparse.Namespace(models=Path(sys.argv[1])))
