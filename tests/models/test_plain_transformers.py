"""The configs of DINOv2 and DINOv3 as they stand, on a small image: losses, gradients, labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model

from deeplab2_d2.engine import load_config

timm = pytest.importorskip("timm")

CONFIGS = Path(__file__).resolve().parents[2] / "configs/Cityscapes-PanopticSegmentation"
SIZE = (65, 97)


@pytest.mark.parametrize("name", ["DINOv2_ViT_S_14", "DINOv3_ViT_S_16"])
def test_the_whole_model_learns_and_labels_images_of_any_size(name: str) -> None:
    torch.manual_seed(0)
    path = CONFIGS / f"panoptic_deeplab_{name}_os16_poly_60k_bs16_crop_1025_2049.yaml"
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "INPUT.CROP.SIZE", str(list(SIZE))]
    cfg = load_config(str(path), [*options, "MODEL.DEEPLAB2.TIMM.DROP_PATH", "1.0"])
    model: Any = build_model(cfg)

    # The release's files fit key for key; the pyramid is ours.
    network = timm.create_model(cfg.MODEL.DEEPLAB2.TIMM.NAME, num_classes=0)
    state = model.backbone.body.state_dict()
    prefix = "model."
    shapes = {k[len(prefix) :]: v.shape for k, v in state.items() if k.startswith(prefix)}
    assert shapes == {key: value.shape for key, value in network.state_dict().items()}

    image = torch.rand(3, *SIZE) * 255
    sample = {
        "image": image,
        "sem_seg": torch.randint(0, 19, SIZE),
        "sem_seg_weights": torch.ones(SIZE),
        "center_heatmap": torch.rand(1, *SIZE),
        "center_weights": torch.ones(SIZE),
        "center_offsets": torch.rand(2, *SIZE),
        "offset_weights": torch.ones(SIZE),
    }
    losses = model.train()([sample, {**sample, "image": 255 - image}])
    assert set(losses) == {"loss_semantic", "loss_center", "loss_offset"}
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    learns = {n: p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters()}
    assert [n for n, is_learning in learns.items() if not is_learning] == []

    model.eval()
    with torch.no_grad():
        (output,) = model([{"image": image[:, :50, :83], "height": 40, "width": 70}])
    assert output["sem_seg"].shape == (19, 40, 70) and output["sem_seg"].isfinite().all()
    panoptic, segments = output["panoptic_seg"]
    ids = set(panoptic.unique().tolist())
    assert panoptic.shape == (40, 70) and ids - {0} == {segment["id"] for segment in segments} - {0}
