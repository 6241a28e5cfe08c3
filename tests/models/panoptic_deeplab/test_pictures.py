"""What a sheet shows of the heads."""

from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model

from deeplab2_d2.engine import load_config
from deeplab2_d2.models.panoptic_deeplab.pictures import CenterPictures

CONFIG = str(
    Path(__file__).resolve().parents[3]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)


def test_predicted_offsets_are_shown_where_things_are_predicted_and_nowhere_else() -> None:
    cfg = load_config(CONFIG, ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0"])
    model = build_model(cfg).eval()
    sample = {"image": torch.zeros(3, 33, 45)}
    images = model.batch([sample])
    assert images.tensor.shape[-2:] == (33, 49)
    # The left half is of channel 0, the first thing, the right half of channel 6, stuff.
    logits = torch.zeros(1, 7, 9, 13)
    logits[:, 0, :, :6] = logits[:, 6, :, 6:] = 1.0
    prediction = {
        "semantic_logits": logits,
        "center_heatmap": torch.zeros(1, 1, 9, 13),
        "center_offsets": torch.full((1, 2, 9, 13), 3.0),
    }
    heatmap, offsets = CenterPictures.from_config(cfg).draw_prediction(
        model, prediction, images, sample
    )
    # 45 of 49 columns of the input are the image: 12 of 13 of the maps.
    assert heatmap.shape == offsets.shape == (9, 12, 3)
    expected = np.zeros((9, 12), bool)
    expected[:, :6] = True
    assert np.array_equal(offsets.any(axis=-1), expected)
