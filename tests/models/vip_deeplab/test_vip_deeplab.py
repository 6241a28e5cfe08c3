"""ViP-DeepLab: pairs of frames through the network, and over a video."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from moving_discs import SIZE, discs, numbers_at, offsets_to, predict

from deeplab2_d2.checkpoint import DeepLab2Checkpointer
from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.models import ImageBatch
from deeplab2_d2.models.panoptic_deeplab import PanopticDeepLabInference
from deeplab2_d2.models.vip_deeplab import DepthCriterion, ViPDeepLabInference
from deeplab2_d2.structures import identity_class_map

CONFIG = str(
    Path(__file__).resolve().parents[3]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
VIP = ["MODEL.META_ARCHITECTURE", "DeepLab2ViPDeepLab"]


def walk(step, num_frames=6):
    """Discs that cross in rows of their own."""
    return [{"a": (10, 8 + step * t), "b": (22, 40 - step * t)} for t in range(num_frames)]


def inference(label_divisor=100):
    panoptic = PanopticDeepLabInference(
        identity_class_map(2), thing_ids=(1,), label_divisor=label_divisor, nms_kernel=3, outputs=()
    )
    return ViPDeepLabInference(panoptic, outputs=("track", "depth"))


def run(infer, frames):
    """The tracks of a video, the state carried from frame to frame."""
    state = None
    for now, following in zip(frames, [*frames[1:], frames[-1]]):
        output = step(infer, now, following, state)
        state = output["state"]
        yield output["track"]


def step(infer, now, following, state):
    prediction, after = predict(now), predict(following)
    prediction["next_semantic_logits"] = after["semantic_logits"]
    prediction["next_center_offsets"] = offsets_to(discs(following)[1], now)
    prediction["depth"] = torch.full((1, 1, *SIZE), 7.0)
    images = ImageBatch(torch.zeros(1, 6, *SIZE), [SIZE])
    sample = {"image": torch.zeros(3, *SIZE), "state": state}
    (output,) = infer(prediction, images, [sample])
    return output


# Of steps of 8 pixels two discs of radius 4 never overlap: only the network's offsets tell.
@pytest.mark.parametrize("pixels", [2, 6, 8])
def test_discs_that_move_keep_their_numbers_however_fast(pixels):
    frames = walk(pixels, 5)
    for centers, track in zip(frames, run(inference(), frames)):
        assert numbers_at(track, centers.values()) == [101, 102]


def test_a_disc_that_enters_begins_a_track_and_one_that_left_is_not_continued():
    frames = walk(2, 5)
    del frames[1]["b"], frames[2]["b"]
    # Only its edge is seen at first: of both discs that now point to "a", "a" overlaps more.
    frames[2]["b"] = (22, 47)
    tracks = list(run(inference(), frames))
    assert numbers_at(tracks[1], frames[1].values()) == [101]
    for centers, track in zip(frames[2:], tracks[2:]):
        assert numbers_at(track, centers.values()) == [101, 103]


def test_two_interleaved_streams_give_the_tracks_of_two_separate_runs():
    infer, one, two = inference(), walk(2), walk(3)[::-1] + walk(2)
    separate = list(run(infer, one)), list(run(infer, two))
    streams = run(infer, one), run(infer, two)
    for index in range(len(one)):
        for frames, stream in zip(separate, streams):
            assert torch.equal(next(stream), frames[index])


def test_a_video_that_runs_out_of_numbers_says_so():
    lost = [walk(2)[0], {}] * 3
    with pytest.raises(ValueError, match="fewer than label_divisor = 5 tracks"):
        list(run(inference(label_divisor=5), lost))


def test_depth_is_in_the_frame_of_the_output():
    output = step(inference(), {}, {}, None)
    assert torch.equal(output["depth"], torch.full(SIZE, 7.0))


def test_an_instance_has_the_class_of_most_of_its_pixels_in_both_frames():
    # The next frame, nearer, shows it larger and as another thing.
    now = {"a": (16, 10)}
    panoptic = PanopticDeepLabInference(
        identity_class_map(3), thing_ids=(1, 2), label_divisor=100, nms_kernel=3, outputs=()
    )
    prediction = predict(now)
    logits = torch.cat([prediction["semantic_logits"], torch.zeros(1, 1, *SIZE)], dim=1)
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[8:25, 20:41] = True
    after = 10.0 * torch.stack([~mask, torch.zeros_like(mask), mask]).float()
    prediction["semantic_logits"], prediction["next_semantic_logits"] = logits, after[None]
    prediction["next_center_offsets"] = offsets_to({"a": mask}, now)
    prediction["depth"] = torch.ones(1, 1, *SIZE)
    infer = ViPDeepLabInference(panoptic, outputs=("track",))
    images = ImageBatch(torch.zeros(1, 6, *SIZE), [SIZE])
    (output,) = infer(prediction, images, [{"image": torch.zeros(3, *SIZE)}])
    assert numbers_at(output["track"], now.values()) == [201]


def test_the_networks_maps_of_a_pair_are_those_of_its_frames(tmp_path):
    image_model = build_model(load_config(CONFIG, [])).eval()
    DeepLab2Checkpointer(image_model, str(tmp_path)).save("image")
    model = build_model(load_config(CONFIG, VIP)).eval()
    DeepLab2Checkpointer(model).load(str(tmp_path / "image.pth"))
    images = torch.randn(2, 6, 65, 81)
    with torch.no_grad():
        now, after = image_model.predict(images[:, :3]), image_model.predict(images[:, 3:])
        found, swapped = model.predict(images), model.predict(images.roll(3, dims=1))
    assert set(found) == set(model.head.kinds)
    for name, maps in now.items():
        assert torch.allclose(found[name], maps, atol=1e-5)
    assert torch.allclose(found["next_semantic_logits"], after["semantic_logits"], atol=1e-5)
    # The next frame's offsets are of the pair, in its order; depth is of the frame alone.
    assert not torch.allclose(found["next_center_offsets"], swapped["next_center_offsets"])
    assert found["depth"].shape == (2, 1, 33, 41)
    assert found["depth"].min() > 0 and found["depth"].max() < 88
    # While training nothing is computed that has no loss.
    assert "next_semantic_logits" not in model.train().predict(images)


def test_depth_has_the_range_of_the_config_and_the_loss_of_two_errors():
    options = ["MODEL.DEEPLAB2.DEPTH_HEAD.RANGE", "[2.0, 3.0]"]
    model = build_model(load_config(CONFIG, [*VIP, *options])).eval()
    with torch.no_grad():
        depth = model.predict(100 * torch.randn(1, 6, 33, 33))["depth"]
    assert depth.min() >= 2 and depth.max() <= 3
    # Twice as far everywhere: the logarithmic error is 0, the relative one is 1.
    target = torch.full((1, 9, 9), 2.0)
    target[0, 0] = 0
    losses, _ = DepthCriterion(0.5)([{"depth": torch.full((1, 1, 3, 3), 4.0)}], {"depth": target})
    assert losses["loss_depth"].item() == pytest.approx(0.5, abs=1e-6)


def test_videos_without_depth_need_none():
    cfg = load_config(CONFIG, [*VIP, "MODEL.DEEPLAB2.LOSS.DEPTH_ERROR", "0.0"])
    model = build_model(cfg)
    assert "depth" not in model.criterion.target_padding and "depth" in model.head.kinds
    assert "depth" not in model.inference.outputs and "track" in model.inference.outputs
    # Else several processes would wait for gradients that never come.
    maps = model.predict(torch.randn(2, 6, 65, 65))
    sum(values.sum() for name, values in maps.items() if name != "depth").backward()
    parameters = dict(model.named_parameters())
    assert [n for n, p in parameters.items() if p.requires_grad and p.grad is None] == []
    frozen = [name for name, p in parameters.items() if not p.requires_grad]
    assert frozen and all(name.startswith("head.depth_head.") for name in frozen)


def test_a_next_frame_of_another_size_is_named():
    model = build_model(load_config(CONFIG, VIP)).eval()
    sample = {"image": torch.zeros(3, 8, 9), "next_image": torch.zeros(3, 8, 7), "file_name": "7"}
    with pytest.raises(
        ValueError, match=r"of 7 must have 'next_image' .*\(3, 8, 9\), got \(3, 8, 7"
    ):
        model([sample])


def test_depth_is_as_fine_under_autocast():
    # 88 * sigmoid(3) = 83.8265; the steps of bfloat16 there are half a meter.
    model = build_model(load_config(CONFIG, VIP)).eval()
    last = model.head.depth_head.final_conv
    last.weight.data.zero_()
    last.bias.data.fill_(3.0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        depth = model.predict(torch.randn(1, 6, 33, 33))["depth"]
    assert depth.dtype == torch.float32
    assert torch.allclose(depth, torch.tensor(83.8265), atol=1e-3)


def test_its_config_is_checked():
    for bounds in ("[3.0, 2.0]", "[-1.0, 2.0]", "[5.0]"):
        with pytest.raises(ConfigError, match="RANGE must be two depths of at least 0"):
            load_config(CONFIG, [*VIP, "MODEL.DEEPLAB2.DEPTH_HEAD.RANGE", bounds])
