"""What is shown of an image is what the network does with it."""

import pytest
import torch
from tiny_oanet import make_config, make_model, make_sample

from deeplab2_d2.models.oanet import rank_image


@pytest.mark.parametrize("stride", (1, 4))
def test_the_image_merged_by_its_ranks_is_the_networks_output(stride):
    cfg = make_config(ranking_stride=stride)
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.0
    cfg.MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT = 1
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = make_model(cfg).eval()
    sample = {**make_sample(), "height": 100, "width": 150}
    (output,) = model([sample])
    expected_map, expected_segments = output["panoptic_seg"]
    image = rank_image(model, sample)
    panoptic_map, segments = image.merge(image.rank_scores)
    assert torch.equal(panoptic_map, expected_map) and len(segments) == len(expected_segments)
    for segment, expected in zip(segments, expected_segments):
        # Scores of two runs of the network, in float32.
        assert segment == pytest.approx(expected, rel=1e-5)
    # Eq. 3 by hand, in the map's frame: the mean over the mask of the class's probability.
    assert len(image.instances) > 1
    for k, mask in enumerate(image.masks):
        channel = image.thing_ids.index(int(image.instances.pred_classes[k]))
        total = (image.ranking_map[channel] * mask).sum() / mask.float().sum().clamp(min=1e-6)
        torch.testing.assert_close(image.rank_scores[k], total)


def test_a_model_without_a_ranking_module_is_refused():
    model = make_model(make_config(ranking_module="")).eval()
    with pytest.raises(ValueError, match="RANKING.MODULE"):
        rank_image(model, make_sample())
