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
    "kMaX-DeepLab, ResNet-50": (
        "COCO-PanopticSegmentation/kmax_deeplab_R_50_os32_poly_150k_bs64_crop_1281_1281.yaml",
        (641, 641),
    ),
}


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    if args.device != "cpu":
        print("forms of a network on a CPU: skipped, --device is not cpu")
        return
    for network, (_, size) in NETWORKS.items():
        size = (65, 129) if args.quick else size
        whole: Optional[Measurement] = None
        for form in FORMS:
            call = {"network": network, "form": form, "size": size, "repeats": args.repeats}
            found = measure_apart(__file__, call, threads=args.threads)
            whole = whole or found
            row: Dict[str, Any] = {
                "name": f"{network}, {size[0]}x{size[1]}: {form}",
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
    from deeplab2_d2.layers import convolution

    convolution.may_fuse = lambda *_: False


def _nothing() -> None:
    pass


# What is done before the network is built; None: of the network itself.
FORMS: Dict[str, List[Callable[[], None]]] = {
    "as our programs run it": [_keep],
    "freed memory given back": [_nothing],
    "channels first": [_keep, _channels_first],
    "convolution, norm, activation apart": [_keep, _apart],
    "none of the three": [_channels_first, _apart],
    "as our programs run it, bfloat16": [_keep],
}


def _measure_here(call: Dict[str, Any]) -> Measurement:
    import torch
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    import deeplab2_d2

    for step in FORMS[call["form"]]:
        step()
    cfg = get_cfg()
    deeplab2_d2.add_deeplab2_config(cfg)
    cfg.merge_from_file(str(CONFIGS / NETWORKS[call["network"]][0]))
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    images = torch.randn(1, 3, *call["size"])
    is_low = call["form"].endswith("bfloat16")

    def predict() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_low):
            return model.predict(images)

    return measure(predict, repeats=call["repeats"])


if __name__ == "__main__":
    answer(_measure_here(json.loads(sys.argv[1])))
