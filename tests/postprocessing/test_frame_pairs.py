"""Two frames are labeled as DeepLab2 does it: as one image, side by side."""

import pytest
import torch

from deeplab2_d2.postprocessing import Frames, panoptic_from_centers, panoptic_from_frame_pair
from deeplab2_d2.structures import identity_class_map

OPTIONS = {"thing_ids": (1, 3), "label_divisor": 1000, "nms_kernel": 3, "center_threshold": 0.9}


def random_maps(num_images, height, width):
    logits = torch.randn(num_images, 4, 3, 3)
    logits = torch.nn.functional.interpolate(logits, (height, width), mode="bilinear")
    # Quarters are exact in float32, with the width taken from them, too.
    offsets = torch.randint(-80, 80, (num_images, 2, height, width)) / 4.0
    return logits, torch.rand(num_images, 1, height, width), offsets


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stuff_area_limit", [0, 150])
def test_a_pair_is_labeled_as_one_wide_image(seed, stuff_area_limit):
    torch.manual_seed(seed)
    height, width = 17, 23
    (logits, heatmap, offsets), (after, _, to_first) = (random_maps(2, height, width) for _ in "ab")
    prediction = {"semantic_logits": logits, "center_heatmap": heatmap, "center_offsets": offsets}
    prediction.update({"next_semantic_logits": after, "next_center_offsets": to_first})
    pair = panoptic_from_frame_pair(
        prediction,
        Frames.unpadded((height, width)),
        class_map=identity_class_map(4),
        stuff_area_limit=stuff_area_limit,
        **OPTIONS,
    )
    moved = to_first - torch.tensor([0.0, width])[:, None, None]
    wide = panoptic_from_centers(
        torch.cat([logits, after], dim=3),
        torch.cat([heatmap, torch.zeros_like(heatmap)], dim=3),
        torch.cat([offsets, moved], dim=3),
        Frames.unpadded((height, 2 * width)),
        stuff_area_limit=stuff_area_limit,
        **OPTIONS,
    )
    assert torch.equal(pair.first.panoptic_map, wide.panoptic_map[:, :, :width])
    assert torch.equal(pair.second_map, wide.panoptic_map[:, :, width:])
    table = pair.first.segments
    for labels, areas, panoptic_map in zip(
        table.panoptic_label, table.area, pair.first.panoptic_map
    ):
        found = [(int(v), int(n)) for v, n in zip(*panoptic_map.unique(return_counts=True))]
        listed = [(int(v), int(n)) for v, n in zip(labels, areas) if n > 0]
        assert sorted(listed) == [pair for pair in found if pair[0] >= 0]
    assert torch.equal(table.panoptic_label < 0, table.area == 0)
