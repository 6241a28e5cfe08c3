"""
Panoptic-DeepLab as a whole beside Detectron2's project.

On a CPU the networks, ResNet-50 at stride 16, at equal work: Detectron2's time is scaled by the two
counts of multiply-adds. On a GPU from the image's tensor to the panoptic map.
"""

import statistics
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from measuring import Measurement, measure, read_clock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from deeplab2_d2.config import add_deeplab2_config

Size = Tuple[int, int]

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_FOLDER = "Cityscapes-PanopticSegmentation/"
_GPU_MODELS = {
    "MobileNetV3-L": "panoptic_deeplab_MobileNetV3_large_os16_poly_60k_bs64_crop_1025_2049.yaml",
    "ResNet-50": "panoptic_deeplab_R_50_os16_paper_poly_60k_bs32_crop_1025_2049.yaml",
    "SWideRNet-SAC-(1, 1, 1)": (
        "panoptic_deeplab_SWideRNet_SAC_1_1_1_os16_poly_60k_bs32_crop_1025_2049.yaml"
    ),
    "Axial-SWideRNet-(1, 1, 1)": (
        "axial_deeplab_SWideRNet_1_1_1_os16_poly_60k_bs32_crop_1025_2049.yaml"
    ),
}
# Milliseconds on a V100, arXiv:1911.10194, Tab. 9.
_PAPERS = {"MobileNetV3-L": 63, "ResNet-50": 117}


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    if args.device == "cuda":
        yield from _gpu_rows(args)
        return
    print("networks on a GPU: skipped, --device is cpu")
    yield from _cpu_rows(args)


def _cpu_rows(args: Any) -> Iterator[Dict[str, Any]]:
    size = (129, 257) if args.quick else (513, 1025)
    # Sizes that each of the two takes without padding.
    even = (size[0] - 1, size[1] - 1)
    ours = our_model(_FOLDER + _GPU_MODELS["ResNet-50"], "cpu")
    theirs = detectron2_model(even, "cpu")
    images, even_images = torch.randn(1, 3, *size), torch.randn(1, 3, *even)

    def predict_theirs(images: Tensor) -> List[Any]:
        features = theirs.backbone(images)
        # Their forward would upsample to the input's size.
        return [head.layers(features) for head in (theirs.sem_seg_head, theirs.ins_embed_head)]

    with torch.inference_mode():
        work = [_count(ours.predict, images), _count(predict_theirs, even_images)]
        peer = measure(lambda: predict_theirs(even_images), repeats=args.repeats)
        own = measure(lambda: ours.predict(images), repeats=args.repeats)
        yield {
            "name": f"Panoptic-DeepLab's network, ResNet-50, stride 16, {size[0]}x{size[1]}, "
            f"{work[0] / 1e9:.0f} B M-Adds",
            "measurement": own,
            "peer": f"Detectron2's ({work[1] / 1e9:.0f} B), scaled to our M-Adds",
            "peer_seconds": peer.seconds * work[0] / work[1],
        }
        rooms = (ours.backbone, ours.head)
        modules = {name: part for room in rooms for name, part in room.named_children()}
        parts = time_parts(modules, lambda: ours.predict(images), repeats=args.repeats)
        for name, seconds in parts.items():
            yield {"name": f"... of which {name}", "measurement": Measurement(*seconds, None)}


def time_parts(
    parts: Mapping[str, nn.Module], call: Callable[[], object], *, repeats: int
) -> Dict[str, Tuple[float, float, int]]:
    """(median, fastest, repeats) in seconds on a CPU of the parts that a call runs once each."""
    times: Dict[str, List[float]] = {}
    handles = []
    for name, part in parts.items():
        starts: List[float] = []

        def before(*_: Any, starts: List[float] = starts) -> None:
            starts.append(read_clock())

        def after(*_: Any, name: str = name, starts: List[float] = starts) -> None:
            times.setdefault(name, []).append(read_clock() - starts.pop())

        handles += [part.register_forward_pre_hook(before), part.register_forward_hook(after)]
    for _ in range(repeats):
        call()
    for handle in handles:
        handle.remove()
    return {
        name: (statistics.median(seconds), min(seconds), len(seconds))
        for name, seconds in times.items()
        if len(seconds) == repeats
    }


def _gpu_rows(args: Any) -> Iterator[Dict[str, Any]]:
    size = (257, 513) if args.quick else (1025, 2049)
    image = torch.randint(0, 256, (3, *size), device="cuda").float()
    even = (size[0] - 1, size[1] - 1)
    theirs = detectron2_model(even, "cuda")
    even_image = image[:, : even[0], : even[1]].contiguous()
    for dtype in (torch.float32, torch.bfloat16):
        call = _end_to_end(theirs, even_image, dtype)
        yield {
            "name": f"Detectron2's Panoptic-DeepLab, ResNet-50, {even[0]}x{even[1]}, {dtype}",
            "measurement": measure(call, repeats=args.repeats, warmups=3, device="cuda"),
        }
    for name, path in _GPU_MODELS.items():
        model = our_model(_FOLDER + path, "cuda")
        for dtype in (torch.float32, torch.bfloat16):
            for is_compiled in (False, True):
                if is_compiled:
                    model.predict = torch.compile(model.predict, fullgraph=True)  # type: ignore
                call = _end_to_end(model, image, dtype)
                words = f"{dtype}{', compiled' if is_compiled else ''}"
                row: Dict[str, Any] = {
                    "name": f"{name}, image to panoptic map, {size[0]}x{size[1]}, {words}",
                    "measurement": measure(call, repeats=args.repeats, warmups=5, device="cuda"),
                }
                if name in _PAPERS and not args.quick:
                    row.update(peer="the paper's, V100", peer_seconds=_PAPERS[name] / 1e3)
                yield row
                if is_compiled:
                    del model.predict
                    torch._dynamo.reset()


def _end_to_end(model: nn.Module, image: Tensor, dtype: torch.dtype) -> Callable[[], Any]:
    def call() -> Any:
        is_low = dtype != torch.float32
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=is_low):
            return model([{"image": image}])[0]["panoptic_seg"]

    return call


def our_model(path: str, device: str) -> nn.Module:
    """A config's model with random weights; the path is below ``configs``."""
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.merge_from_file(str(_CONFIGS / path))
    cfg.MODEL.DEVICE = device
    cfg.MODEL.DEEPLAB2.NORM.NAME = "BN"
    # Images have their own size.
    cfg.TEST.DEEPLAB2.PAD_TO = (0, 0)
    # The panoptic map alone.
    cfg.MODEL.DEEPLAB2.POSTPROCESSING.SEMANTIC_OUTPUT = False
    cfg.MODEL.DEEPLAB2.POSTPROCESSING.INSTANCE_OUTPUT = False
    torch.manual_seed(0)
    return build_model(cfg).eval()


def detectron2_model(
    size: Size,
    device: str,
    num_classes: int = 19,
    dataset: str = "cityscapes_fine_panoptic_train",
) -> nn.Module:
    """Detectron2's project with a ResNet-50 at stride 16, for images of a size."""
    from detectron2.projects import panoptic_deeplab

    cfg: CfgNode = get_cfg()
    panoptic_deeplab.add_panoptic_deeplab_config(cfg)
    model = cfg.MODEL
    model.DEVICE, model.META_ARCHITECTURE = device, "PanopticDeepLab"
    model.BACKBONE.NAME, model.BACKBONE.FREEZE_AT = "build_resnet_deeplab_backbone", 0
    model.RESNETS.DEPTH, model.RESNETS.NORM = 50, "BN"
    model.RESNETS.STEM_TYPE, model.RESNETS.STRIDE_IN_1X1 = "basic", False
    model.RESNETS.OUT_FEATURES, model.RESNETS.RES5_DILATION = ["res2", "res3", "res5"], 2
    model.SEM_SEG_HEAD.NAME = "PanopticDeepLabSemSegHead"
    for node, convs in ((model.SEM_SEG_HEAD, 256), (model.INS_EMBED_HEAD, 128)):
        node.IN_FEATURES, node.PROJECT_FEATURES = ["res2", "res3", "res5"], ["res2", "res3"]
        node.PROJECT_CHANNELS, node.CONVS_DIM, node.NORM = [32, 64], convs, "BN"
        node.ASPP_CHANNELS, node.ASPP_DILATIONS, node.COMMON_STRIDE = 256, [6, 12, 18], 4
        node.USE_DEPTHWISE_SEPARABLE_CONV = True
    model.SEM_SEG_HEAD.NUM_CLASSES = num_classes
    model.SEM_SEG_HEAD.LOSS_TYPE = "hard_pixel_mining"
    model.PANOPTIC_DEEPLAB.PREDICT_INSTANCES = False
    model.PANOPTIC_DEEPLAB.USE_DEPTHWISE_SEPARABLE_CONV = True
    crop = cfg.INPUT.CROP
    crop.ENABLED, crop.TYPE, crop.SIZE = True, "absolute", list(size)
    cfg.DATASETS.TRAIN = (dataset,)
    torch.manual_seed(0)
    return build_model(cfg).eval()


def _count(call: Callable[[Tensor], Any], images: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(images)
    return counter.get_total_flops() // 2
