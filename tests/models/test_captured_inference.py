"""
Inference by CUDA graphs, as far as it can be seen without a GPU.

In place of a graph stands what a graph is: a function that reads one place in memory, with all else
as it was. On a GPU the graphs themselves are compared.
"""

import copy
import pickle
import traceback
from pathlib import Path
from typing import Any, Dict, List
from unittest import mock

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.utils import logger
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.models import Segmenter, labels_are_enough
from deeplab2_d2.models.captured_inference import CapturedInference
from deeplab2_d2.models.cuda_graphs import CudaGraphs
from deeplab2_d2.ops import extension

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_SHAPES, _VIDEOS = "Shapes-PanopticSegmentation/", "ShapesVideo-PanopticSegmentation/"
MODELS = {
    "Panoptic-DeepLab": _SHAPES + "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161",
    "MaX-DeepLab": _SHAPES + "max_deeplab_tiny_os16_poly_bs8_crop_129_161",
    "kMaX-DeepLab": _SHAPES + "kmax_deeplab_tiny_os32_poly_bs8_crop_129_161",
    "DeepLab v2": "Shapes-SemanticSegmentation/deeplab_v2_VGG_16_narrow_os8_poly_bs8_crop_129_161",
    "Motion-DeepLab": _VIDEOS + "motion_deeplab_tiny_os16_poly_bs8_crop_129_257",
    "ViP-DeepLab": _VIDEOS + "vip_deeplab_tiny_os16_poly_bs8_crop_129_257",
}
# Those whose post-processing needs the state of a video have the network alone in their graph.
WITHOUT_POSTPROCESSING = ("Motion-DeepLab", "ViP-DeepLab")


class RecordedGraphs:
    """Counts what is captured; each replay reads the example's memory."""

    instances: List["RecordedGraphs"] = []

    def __init__(self) -> None:
        self.shapes: List[Any] = []
        self.num_replays = 0
        self.instances.append(self)

    def __call__(self, function: Any, example: Tensor) -> Any:
        self.shapes.append(tuple(example.shape))
        place = example.clone()

        def replay(images: Tensor) -> Any:
            self.num_replays += 1
            place.copy_(images)
            return pytree.tree_map_only(Tensor, Tensor.clone, function(place))

        return replay


@pytest.fixture(autouse=True)
def recorded() -> List[RecordedGraphs]:
    RecordedGraphs.instances = []
    return RecordedGraphs.instances


def build(name: str, *options: str, device: str = "cpu") -> Segmenter:
    file = str(CONFIGS / f"{MODELS[name]}.yaml")
    return build_model(load_config(file, ["MODEL.DEVICE", device, *options])).eval()


def sample(rows: int, columns: int, seed: int, **others: Any) -> Dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, rows, columns), generator=generator).float()
    return {"image": image, **others}


def assert_same(found: Any, expected: Any) -> None:
    """Of outputs, to the last bit: the same operations were run."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.keys() == other.keys()
        for key in one.keys() - {"state", "instances"}:
            leaves = zip(*(pytree.tree_leaves(output[key]) for output in (one, other)))
            assert all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in leaves)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_replayed_outputs_are_those_of_the_model(name, recorded):
    model = build(name)
    captured = CapturedInference(RecordedGraphs)
    whole = name not in WITHOUT_POSTPROCESSING
    for seed in range(4):
        samples = [sample(65, 97, seed, height=80, width=120), sample(60, 90, seed + 9)]
        found = captured(model, model.batch(samples), samples)
        assert_same(found, model(samples))
        # Eager, then captured, then replayed.
        assert recorded[0].num_replays == seed
    batch = tuple(model.batch(samples).tensor.shape)
    assert recorded[0].shapes == [batch]
    keys = list(captured._graphs)
    assert len(keys) == 1 and (len(keys[0]) > 3) == whole


@torch.no_grad()
def test_outputs_of_another_size_share_the_network_s_graph(recorded):
    model = build("Panoptic-DeepLab")
    captured = CapturedInference(RecordedGraphs)
    for side in (80, 81, 82, 82):
        samples = [sample(65, 97, 0, height=side, width=120)]
        assert_same(captured(model, model.batch(samples), samples), model(samples))
    # The network's at 81, used again at 82; the whole at the second 82.
    assert len(recorded[0].shapes) == 2 and recorded[0].num_replays == 3


@torch.no_grad()
def test_each_set_of_outputs_has_its_graph(recorded):
    model = build("Panoptic-DeepLab")
    captured = CapturedInference(RecordedGraphs)
    samples = [sample(65, 97, 0)]
    images = model.batch(samples)
    for _ in range(2):
        assert "sem_seg" in captured(model, images, samples)[0]
        with labels_are_enough():
            found = captured(model, images, samples)[0]
            assert "sem_seg" not in found and "sem_seg_labels" in found
    assert_same(captured(model, images, samples), model(samples))


@torch.no_grad()
def test_all_centers_are_not_in_a_graph(recorded):
    """How many there are is a value of the GPU's."""
    options = ("MODEL.DEEPLAB2.POSTPROCESSING.TOP_K_CENTERS", "0")
    model = build("Panoptic-DeepLab", *options)
    captured = CapturedInference(RecordedGraphs)
    samples = [sample(65, 97, 0)]
    for _ in range(3):
        assert_same(captured(model, model.batch(samples), samples), model(samples))
    assert [len(key) for key in captured._graphs] == [3]


@torch.no_grad()
def test_graphs_used_last_are_kept(recorded):
    model = build("DeepLab v2")
    captured = CapturedInference(RecordedGraphs)
    for width in (*range(17, 89, 8), 17):
        samples = [sample(17, width, 0)]
        for _ in range(2):
            captured(model, model.batch(samples), samples)
    # Nine sizes, and the first again after it was the oldest of eight.
    assert len(recorded[0].shapes) == 10 and len(captured._graphs) == 8


@torch.no_grad()
def test_weights_that_moved_or_were_replaced_are_seen(recorded):
    model = build("Panoptic-DeepLab")
    captured = model.captured = CapturedInference(RecordedGraphs)
    samples = [sample(65, 97, 0)]
    run = lambda: captured(model, model.batch(samples), samples)  # noqa: E731
    for _ in range(3):
        run()
    # In place, as optimizers do: the graph reads them.
    weight = next(iter(model.head.parameters()))
    weight.mul_(2.0)
    assert_same(run(), model(samples))
    assert len(recorded) == 1
    # Elsewhere: as model.to() does.
    weight.data = weight.data.clone() * 2.0
    assert_same(run(), model(samples))
    assert len(recorded) == 2
    run()
    run()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert len(recorded) == 3 and not captured._graphs


def test_copies_and_pickles_begin_without_graphs(recorded):
    captured = CapturedInference(RecordedGraphs)
    model = build("DeepLab v2")
    samples = [sample(17, 25, 0)]
    with torch.no_grad():
        for _ in range(2):
            captured(model, model.batch(samples), samples)
    assert captured._graphs
    for copied in (copy.deepcopy(captured), pickle.loads(pickle.dumps(captured))):
        assert not copied._graphs and copied._make_capture is RecordedGraphs


def test_what_cannot_be_captured_is_an_error_that_names_the_key():
    class Refusing:
        def __call__(self, function: Any, example: Tensor) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing")

    model = build("DeepLab v2")
    captured = CapturedInference(Refusing)
    samples = [sample(17, 25, 0)]
    message = r"TEST.DEEPLAB2.CUDA_GRAPH must be False.*\(1, 3, 17, 25\).*not permitted"
    with torch.no_grad():
        captured(model, model.batch(samples), samples)
        with pytest.raises(RuntimeError, match=message):
            captured(model, model.batch(samples), samples)


def test_a_model_on_a_cpu_says_that_the_key_has_no_effect(caplog):
    logger._LOG_COUNTER.clear()
    model = build("DeepLab v2", "TEST.DEEPLAB2.CUDA_GRAPH", "True")
    plain = build("DeepLab v2")
    plain.load_state_dict(model.state_dict())
    samples = [sample(17, 25, 0)]
    assert model.captured is not None and plain.captured is None
    with torch.no_grad():
        assert_same(model(samples), plain(samples))
    assert "TEST.DEEPLAB2.CUDA_GRAPH has no effect: the model is on cpu" in caplog.text


@pytest.mark.parametrize(
    "file",
    [
        "ShapesLayers-PanopticSegmentation/oanet_tiny_os32_poly_bs4_short_192_long_256",
        "Shapes-Classification/resnet_tiny_os32_cosine_bs32_crop_33_33",
    ],
)
def test_models_that_have_no_such_graph_refuse_the_key(file):
    with pytest.raises(ConfigError, match="TEST.DEEPLAB2.CUDA_GRAPH must be .*False.*got True"):
        load_config(str(CONFIGS / f"{file}.yaml"), ["TEST.DEEPLAB2.CUDA_GRAPH", "True"])


class WaitForbidden(TorchDispatchMode):
    """Refuses what is copied between the devices; tables that are kept are copied once."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        leaves = pytree.tree_leaves((args, kwargs, result))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.dim() > 0]
        if len({tensor.device.type for tensor in tensors}) > 1:
            files = [frame.filename for frame in traceback.extract_stack()]
            assert any(file.endswith("structures/tables.py") for file in files), function
        return result


@pytest.mark.parametrize(
    "wait",
    [
        lambda values: torch.tensor([1, 2], device="cuda"),
        lambda values: values.cpu(),
        lambda values: values[[0, 1]],
        lambda values: values.sum().item(),
    ],
    ids=["constant", "read", "list of indices", "value"],
)
def test_a_copy_between_the_devices_is_seen(wait):
    with FakeTensorMode():
        values = torch.empty(4, device="cuda")
        with pytest.raises((AssertionError, RuntimeError)), WaitForbidden():
            wait(values)


_CITYSCAPES = "Cityscapes-PanopticSegmentation/"
PUBLISHED = [
    _CITYSCAPES + "panoptic_deeplab_R_50_os32_poly_60k_bs8_crop_1025_2049",
    _CITYSCAPES + "panoptic_deeplab_MobileNetV3_large_os16_poly_60k_bs64_crop_1025_2049",
    _CITYSCAPES + "panoptic_deeplab_HRNet_W48_os32_poly_90k_bs8_crop_1025_2049",
    _CITYSCAPES + "panoptic_deeplab_SWideRNet_SAC_1_1_1_os16_poly_60k_bs32_crop_1025_2049",
    _CITYSCAPES + "axial_deeplab_MaX_S_os16_poly_60k_bs32_crop_1025_2049",
    "COCO-PanopticSegmentation/max_deeplab_S_os16_poly_100k_bs64_crop_641_641",
    "COCO-PanopticSegmentation/kmax_deeplab_ConvNeXt_T_os32_poly_150k_bs64_crop_1281_1281",
    "PascalVOC-SemanticSegmentation/deeplab_v2_R_101_MSC_os8_poly_20k_bs10_crop_321_321",
    "Cityscapes-DVPS-PanopticSegmentation/vip_deeplab_R_50_beta_os32_poly_120k_bs16_crop_513_1025",
]


def fake_on_gpu(model: nn.Module) -> None:
    """Parameters and buffers as tensors on a GPU that need neither memory nor a GPU."""
    for module in model.modules():
        for name, values in module._parameters.items():
            if values is not None:
                fake = torch.empty(values.shape, dtype=values.dtype, device="cuda")
                module._parameters[name] = nn.Parameter(fake)
        for name, values in module._buffers.items():
            if values is not None:
                module._buffers[name] = torch.empty(values.shape, dtype=values.dtype, device="cuda")


@torch.no_grad()
@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.split("/")[1])
def test_no_step_of_a_published_model_waits_for_the_gpu(file):
    """Fake tensors refuse to have values, and nothing is copied from or to the CPU."""
    has_kernels = mock.patch.object(extension, "_has_kernels_for", lambda *arguments: True)
    if not extension._is_loaded():
        pytest.skip("the operators are not built: their reference waits")
    cfg = load_config(str(CONFIGS / f"{file}.yaml"), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    with FakeTensorMode(allow_non_fake_inputs=True), has_kernels:
        model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).eval()
        fake_on_gpu(model)
        samples = [{"image": torch.empty(3, 129, 193), "height": 200, "width": 300}]
        images = model.batch(samples)
        inference = model.wanted_inference()
        with WaitForbidden():
            prediction = model.predict(images.tensor)
            if getattr(inference, "is_capturable", False):
                computed = inference.compute(prediction, images, samples)
                assert any(leaf.device.type == "cuda" for leaf in pytree.tree_leaves(computed))


@torch.no_grad()
@pytest.mark.gpu
@pytest.mark.parametrize("is_mixed", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_graphs_on_a_gpu_give_what_the_model_gives(name, is_mixed):
    model = build(name, "TEST.DEEPLAB2.CUDA_GRAPH", "True", device="cuda")
    plain = copy.deepcopy(model)
    plain.captured = None
    autocast = torch.autocast("cuda", torch.bfloat16, enabled=is_mixed)
    for seed in range(4):
        samples = [sample(65, 97, seed, height=80, width=120)]
        with autocast, torch.inference_mode(seed % 2 == 1):
            found, expected = model(samples), plain(samples)
        assert_same(found, expected)
    assert isinstance(model.captured._capture, CudaGraphs) and model.captured._graphs
