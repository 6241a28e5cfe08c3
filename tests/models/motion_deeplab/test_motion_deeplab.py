"""Motion-DeepLab: what the network sees, and whose the tracks are."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from moving_discs import SIZE, discs, numbers_at, offsets_to, predict

from deeplab2_d2.checkpoint import DeepLab2Checkpointer
from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.models import ImageBatch
from deeplab2_d2.models.motion_deeplab import MotionDeepLabInference
from deeplab2_d2.models.panoptic_deeplab import PanopticDeepLabInference
from deeplab2_d2.structures import identity_class_map
from deeplab2_d2.video import start_tracks

CONFIG = str(
    Path(__file__).resolve().parents[3]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
MOTION = ["MODEL.META_ARCHITECTURE", "DeepLab2MotionDeepLab"]
MOTION += ["MODEL.PIXEL_MEAN", str([127.5] * 7), "MODEL.PIXEL_STD", str([127.5] * 7)]
WALK = [{"a": (10, 8 + 3 * t), "b": (22, 40 - 3 * t)} for t in range(6)]


def inference(**options):
    panoptic = PanopticDeepLabInference(
        identity_class_map(2), thing_ids=(1,), label_divisor=100, nms_kernel=3, outputs=()
    )
    return MotionDeepLabInference(panoptic, outputs=("track",), **options)


class Stream:
    """Discs seen frame by frame; it carries its state itself."""

    def __init__(self, infer, walk):
        self.infer, self.walk, self.state, self.frame = infer, walk, None, 0

    def step(self, image_of=float):
        before, now = self.walk[max(self.frame - 1, 0)], self.walk[self.frame]
        prediction = {**predict(now), "frame_offsets": offsets_to(discs(now)[1], before)}
        sample = {"image": torch.full((3, *SIZE), image_of(self.frame))}
        if self.frame:
            sample["previous_image"] = torch.full((3, *SIZE), image_of(self.frame - 1))
            sample["state"] = self.state
        images = ImageBatch(torch.zeros(1, 7, *SIZE), [SIZE])
        (output,) = self.infer(prediction, images, [sample])
        self.state = output["state"]
        self.frame += 1
        return output["track"]


def test_discs_that_cross_keep_their_numbers():
    stream = Stream(inference(), WALK)
    for centers in WALK:
        assert numbers_at(stream.step(), centers.values()) == [101, 102]


def test_two_interleaved_streams_give_the_tracks_of_two_separate_runs():
    infer, other = inference(), [{"c": (16, 40)}] + WALK[:0:-1]
    separate = [[s.step() for _ in range(6)] for s in (Stream(infer, WALK), Stream(infer, other))]
    streams = Stream(infer, WALK), Stream(infer, other)
    mixed = [[stream.step() for stream in streams] for _ in range(6)]
    for first, second, together in zip(*separate, mixed):
        assert torch.equal(first, together[0]) and torch.equal(second, together[1])
    assert not torch.equal(separate[0][5], separate[1][5])


@pytest.mark.parametrize("resets", [False, True])
def test_a_paused_video_goes_on_unless_deeplab2s_rule_is_asked_for(resets):
    walk = [WALK[0], WALK[3], {"b": WALK[3]["b"]}, {"b": WALK[3]["b"]}]
    stream = Stream(inference(resets_on_equal_frames=resets), walk)
    # Frames 1 and 2 show another image than those before, frame 3 the same as frame 2.
    tracks = [stream.step(lambda frame: float(min(frame, 2))) for _ in walk]
    number = numbers_at(tracks[2], walk[2].values())[0]
    assert number > 101
    assert numbers_at(tracks[3], walk[3].values()) == [101 if resets else number]


def test_an_image_of_the_frame_before_belongs_to_a_state():
    sample = {"image": torch.zeros(3, *SIZE), "state": start_tracks(), "file_name": "7.png"}
    with pytest.raises(ValueError, match="sample of 7.png must have 'previous_image'"):
        inference().state(sample)


def test_a_frame_before_of_another_size_is_named():
    sample = {"image": torch.zeros(3, 8, 9), "previous_image": torch.zeros(3, 8, 7)}
    sample["state"] = start_tracks()
    with pytest.raises(
        ValueError, match=r"must have 'previous_image' .*\(3, 8, 9\), got \(3, 8, 7"
    ):
        inference().previous(sample)


def test_the_network_sees_both_frames_and_the_centers_of_the_last_one():
    model = build_model(load_config(CONFIG, MOTION)).eval()
    stream = Stream(inference(), [WALK[0], {"a": WALK[1]["a"]}])
    stream.step()
    stream.step()
    # "b" was hidden in the last frame: its track goes on, but no center was found there.
    assert sorted(stream.state.ages.tolist()) == [1, 2]
    image, previous = torch.rand(2, 3, *SIZE) * 255
    sample = {"image": image, "previous_image": previous, "state": stream.state}
    seen = model.network_input(sample)
    assert torch.equal(seen[:3], image) and torch.equal(seen[3:6], previous)
    y, x = (torch.arange(side) for side in SIZE)
    center_y, center_x = WALK[1]["a"]
    # INPUT.DEEPLAB2.SIGMA is 4.
    squared = (y[:, None] - center_y) ** 2 + (x - center_x) ** 2
    reach = torch.maximum((y[:, None] - center_y).abs(), (x - center_x).abs())
    expected = torch.where(reach <= 13, torch.exp(-squared / 32.0), torch.zeros(()))
    assert torch.allclose(seen[6], expected, atol=1e-6)
    # Beside the image there is no center (DeepLab2 normalizes 0 to -1); images are padded with 0.
    batch = model.batch([sample, {**sample, "image": torch.zeros(3, *SIZE)}])
    (small,) = model.batch([{"image": torch.zeros(3, 20, 30)}]).tensor
    assert batch.tensor.shape == (2, 7, 33, 49) and small.shape == (7, 33, 33)
    assert torch.all(small[6] == -1.0) and torch.all(small[:6, 20:] == 0)


def test_centers_are_drawn_in_pixels_of_the_networks_image():
    stream = Stream(inference(), WALK)
    stream.step()
    # The outputs, to which the tracks belong, are larger than what the network sees.
    sample = {"image": torch.zeros(3, 17, 25), "previous_image": torch.ones(3, 17, 25)}
    sample.update({"height": SIZE[0], "width": SIZE[1], "state": stream.state})
    _, heatmap = inference(sigma=1).previous(sample)
    assert [(y, x) for y, x in (heatmap[0] == 1).nonzero().tolist()] == [(5, 4), (11, 20)]


def test_panoptic_deeplabs_weights_are_a_start(tmp_path):
    image_model = build_model(load_config(CONFIG, [])).eval()
    DeepLab2Checkpointer(image_model, str(tmp_path)).save("image")
    model = build_model(load_config(CONFIG, MOTION)).eval()
    DeepLab2Checkpointer(model).load(str(tmp_path / "image.pth"))
    images = torch.randn(2, 7, 65, 81)
    with torch.no_grad():
        expected, found = image_model.predict(images[:, :3]), model.predict(images)
    assert set(found) == {*expected, "frame_offsets"}
    for name, maps in expected.items():
        # Another order of summing over the channels.
        assert torch.allclose(found[name], maps, atol=1e-5, rtol=1e-4)


def test_its_config_is_checked():
    with pytest.raises(ConfigError, match="MODEL.PIXEL_MEAN must be 7 numbers"):
        load_config(CONFIG, MOTION[:2])
    with pytest.raises(ConfigError, match="KEEP_FRAMES must be at least 1, got 0"):
        load_config(CONFIG, [*MOTION, "MODEL.DEEPLAB2.TRACKING.KEEP_FRAMES", "0"])
    for sigma in ("0.4", "4.5"):
        with pytest.raises(ConfigError, match=f"SIGMA must be a whole number .*, got {sigma}"):
            load_config(CONFIG, [*MOTION, "INPUT.DEEPLAB2.SIGMA", sigma])
    with pytest.raises(ConfigError, match="INSTANCE_ENABLED must be True for a model that tracks"):
        load_config(CONFIG, [*MOTION, "MODEL.DEEPLAB2.INSTANCE_ENABLED", "False"])
