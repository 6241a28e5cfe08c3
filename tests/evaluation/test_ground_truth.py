import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.evaluation import GroundTruthPredictor


def test_a_gray_png_is_refused_as_the_mapper_does(tiny_records):
    # As RGB, each value v would be the id v * (1 + 256 + 256^2).
    path = tiny_records[0]["pan_seg_file_name"]
    Image.fromarray(np.ones((4, 6), np.uint8)).save(path)
    with pytest.raises(ValueError, match="one.png must be RGB, .* got mode L"):
        GroundTruthPredictor(num_classes=3, thing_ids={0, 2})([tiny_records[0]])
