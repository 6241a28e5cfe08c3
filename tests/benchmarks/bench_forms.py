"""
Whole networks on a CPU, with and without each thing that makes them faster.

Every line is a process of its own, because how malloc keeps memory cannot be taken back. The peer
of each line is the network as our programs run it, so that its ratio is what the thing is worth.
"""

import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from apart import answer, measure_apart
from measuring import Measurement, measure

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Name to config and size of the network's input.
NETWORKS: Dict[str, Tuple[str, Tuple[int, int]]] = {
    "Panoptic-DeepLab, MobileNetV3-L": (
        "Cityscapes-PanopticSegmentation/"
        "panoptic_deeplab_MobileNetV3_large_os16_poly_60k_bs64_crop_1025_2049.yaml",
        (513, 1025),
    ),
    "Panoptic-DeepLab, ResNet-50, stride 16": (
        "Cityscapes-PanopticSegmentation/"
        "panoptic_deeplab_R_50_os16_paper_poly_60k_bs32_crop_1025_2049.yaml",
        (513, 1025),
    ),
    "MaX-DeepLab-S": (
        "COCO-PanopticSegmentation/max_deeplab_S_os16_poly_100k_bs64_crop_641_641.yaml",
        (641, 641),
    ),
    "Axial-DeepLab, Axial-SWideRNet-(1, 1, 1)": (
        "Cityscapes-PanopticSegmentation/"
        "axial_deeplab_SWideRNet_1_1_1_os16_poly_60k_bs32_crop_1025_2049.yaml",
        (513, 1025),
    ),
    "the backbone axial_resnet_s, stride 16": ("", (513, 1025)),
    "kMaX-DeepLab, ResNet-50": (
        "COCO-PanopticSegmentation/kmax_deeplab_R_50_os32_poly_150k_bs64_crop_1281_1281.yaml",
        (641, 641),
    ),
}


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    """``--quick`` takes a small image, and one network in two forms."""
    if args.device != "cpu":
        print("forms of a network on a CPU: skipped, --device is not cpu")
        return
    networks = list(NETWORKS.items())[: 1 if args.quick else None]
    for network, (_, size) in networks:
        size = (65, 129) if args.quick else size
        work = multiply_adds(network, size) / 1e9
        whole: Optional[Measurement] = None
        for form in list(FORMS)[:: 4 if args.quick else 1]:
            call = {"network": network, "form": form, "size": size, "repeats": args.repeats}
            found = measure_apart(__file__, call, threads=args.threads)
            whole = whole or found
            row: Dict[str, Any] = {
                "name": f"{network}, {size[0]}x{size[1]}: {form} "
                f"({work:.1f} B M-Adds, {work / found.seconds:.0f} B a second)",
                "measurement": found,
            }
            if form != "as our programs run it":
                row.update(peer="as our programs run it", peer_seconds=whole.seconds)
            yield row


def _keep() -> None:
    import deeplab2_d2

    deeplab2_d2.keep_freed_memory()


def _channels_first() -> None:
    from deeplab2_d2.models import segmenter

    segmenter.fast_layout = lambda images: images


def _apart() -> None:
    from deeplab2_d2.layers import fused_convolution

    fused_convolution._may_use_onednn = lambda _: False


def _lean() -> None:
    from deeplab2_d2 import ops

    ops.use_reference().__enter__()


# What takes away what makes convolutions faster.
BEFORE = [_channels_first, _apart]
# What is done before the network is built.
FORMS: Dict[str, List[Callable[[], None]]] = {
    "as our programs run it": [_keep],
    "freed memory given back": [],
    "channels first": [_keep, _channels_first],
    "convolution, norm, activation apart": [_keep, _apart],
    "none of these, nor the operator of axial attention": [*BEFORE, _lean],
    "as our programs run it, bfloat16": [_keep],
}


def build_network(name: str) -> Tuple[Any, Callable[[Any], Any]]:
    """
    Args:
        name: one of ``NETWORKS``.

    Returns:
        A module in evaluation, on a CPU; and images, (N, 3, H, W), normalised, to its raw maps or
        features.
    """
    import deeplab2_d2  # It makes Detectron2 importable, which comes next.  # isort: skip
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from deeplab2_d2.backbones import build_backbone_by_name
    from deeplab2_d2.layers import Norm
    from deeplab2_d2.models import segmenter

    path = NETWORKS[name][0]
    if not path:
        backbone = build_backbone_by_name("axial_resnet_s", norm=Norm("BN"), output_stride=16)
        return backbone.eval(), lambda images: backbone(segmenter.fast_layout(images))
    cfg = get_cfg()
    deeplab2_d2.add_deeplab2_config(cfg)
    cfg.merge_from_file(str(CONFIGS / path))
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    return model, model.predict


def multiply_adds(name: str, size: Tuple[int, int]) -> int:
    """Of a network on an image, counted on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module, network = build_network(name)
    module.to("meta").requires_grad_(False)
    images = torch.zeros(1, 3, *size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() // 2


def _measure_here(call: Dict[str, Any]) -> Measurement:
    import torch

    for step in FORMS[call["form"]]:
        step()
    torch.manual_seed(0)
    _, network = build_network(call["network"])
    images = torch.randn(1, 3, *call["size"])
    is_low = call["form"].endswith("bfloat16")

    def predict() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_low):
            return network(images)

    return measure(predict, repeats=call["repeats"])


if __name__ == "__main__":
    answer(_measure_here(json.loads(sys.argv[1])))
