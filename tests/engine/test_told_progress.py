"""Parts of a model that change with the training are told how far it is."""

from types import SimpleNamespace

import torch
from torch import nn

from deeplab2_d2.engine.training_parts import ToldProgress
from deeplab2_d2.layers import GrowingDropPath
from deeplab2_d2.models.deeplab import SemanticCriterion
from deeplab2_d2.structures import identity_class_map


def test_every_step_tells_layers_and_the_criterion() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(GrowingDropPath(0.5)))
    model.criterion = SemanticCriterion(  # type: ignore[assignment]
        255, identity_class_map(2), top_k=0.5, hard_after=8
    )
    hook = ToldProgress(model)
    hook.trainer = SimpleNamespace(iter=4, max_iter=16)  # type: ignore[assignment]
    hook.before_step()
    # A quarter of the training; half of the way from all pixels to half of them.
    assert torch.equal(model[1][0].progress, torch.tensor(0.25))
    assert model.criterion.kept == 0.75


def test_a_model_without_such_parts_is_left_alone() -> None:
    assert ToldProgress(nn.Linear(1, 1)).followers == []
