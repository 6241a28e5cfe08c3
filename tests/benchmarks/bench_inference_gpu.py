"""
Whole models on a GPU, from an image's tensor to Detectron2's outputs: with inference as a CUDA
graph (TEST.DEEPLAB2.CUDA_GRAPH) beside the same model without.

Outputs are the labels of evaluation (no scores of all classes), random weights.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, List

import torch
from detectron2.modeling import build_model
from measuring import measure

from deeplab2_d2.engine import load_config
from deeplab2_d2.models import labels_are_enough

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_CITYSCAPES, _COCO = "Cityscapes-PanopticSegmentation/", "COCO-PanopticSegmentation/"
# Config and size of the image.
MODELS = {
    "Panoptic-DeepLab MobileNetV3-L": (
        _CITYSCAPES + "panoptic_deeplab_MobileNetV3_large_os16_poly_60k_bs64_crop_1025_2049.yaml",
        (1025, 2049),
    ),
    "Panoptic-DeepLab ResNet-50": (
        _CITYSCAPES + "panoptic_deeplab_R_50_os16_paper_poly_60k_bs32_crop_1025_2049.yaml",
        (1025, 2049),
    ),
    "MaX-DeepLab-S": (
        _COCO + "max_deeplab_S_os16_poly_100k_bs64_crop_641_641.yaml",
        (641, 641),
    ),
    "kMaX-DeepLab ResNet-50": (
        _COCO + "kmax_deeplab_R_50_os32_poly_150k_bs64_crop_1281_1281.yaml",
        (641, 641),
    ),
}


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    if args.device != "cuda":
        print("inference as a CUDA graph: skipped, --device is cpu")
        return
    for name, (file, size) in MODELS.items():
        size = (129, 257) if args.quick else size
        model = _build(file)
        samples: List[Dict[str, Any]] = [{"image": torch.rand(3, *size, device="cuda") * 255}]
        captured = model.captured
        for dtype in (torch.float32, torch.bfloat16):

            def infer() -> Any:
                autocast = torch.autocast("cuda", dtype, enabled=dtype != torch.float32)
                with torch.inference_mode(), labels_are_enough(), autocast:
                    return model(samples)

            model.captured = None
            plain = measure(infer, repeats=args.repeats, warmups=5, device="cuda")
            expected = infer()[0]["sem_seg_labels"]
            model.captured = captured
            replayed = measure(infer, repeats=args.repeats, warmups=5, device="cuda")
            if not torch.equal(infer()[0]["sem_seg_labels"], expected):
                raise RuntimeError(f"{name}: the graph gives other labels than the model")
            yield {
                "name": f"{name}, image {size[0]}x{size[1]} to outputs, {dtype}, as a CUDA graph",
                "measurement": replayed,
                "peer": "launched one by one",
                "peer_seconds": plain.seconds,
            }


def _build(file: str) -> Any:
    options = ["MODEL.DEVICE", "cuda", "MODEL.WEIGHTS", "", "TEST.DEEPLAB2.CUDA_GRAPH", "True"]
    torch.manual_seed(0)
    return build_model(load_config(str(_CONFIGS / file), options)).eval()
