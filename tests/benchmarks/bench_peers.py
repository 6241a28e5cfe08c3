"""
Panoptic networks of several libraries in one run, one image to its map of segments (or classes).

Hugging Face's need ``pip install transformers==5.24.0``, for this benchmark alone; without it their
rows are left out. All have COCO's 133 classes and random weights, and are called in turns, so that
a machine that is busy for a while is so for all. Ours and Detectron2's take images of 1 + a
multiple of 32 and of a multiple of 32; those that need the latter see the image without its last
row and column. With random weights no mask of a mask transformer passes its thresholds: the loops
over segments of Hugging Face's post-processing cost nothing here, ours has none.
"""

from typing import Any, Callable, Dict, Iterator

import torch
from bench_crf import make_scene
from bench_networks import detectron2_model, our_model, time_parts
from measuring import Measurement, measure_in_turns
from run import format_seconds
from torch import Tensor, nn

Call = Callable[[], Tensor]

_FOLDER = "COCO-PanopticSegmentation/"
_NUM_CLASSES = 133
# Parts below this share of the whole have no row.
_LEAST_PART = 0.02
_OURS = {
    "Panoptic-DeepLab ResNet-50": "panoptic_deeplab_R_50_os16_poly_200k_bs64_crop_641_641.yaml",
    "MaX-DeepLab-S": "max_deeplab_S_os16_poly_100k_bs64_crop_641_641.yaml",
    "kMaX-DeepLab ResNet-50": "kmax_deeplab_R_50_os32_poly_150k_bs64_crop_1281_1281.yaml",
}
_DETECTRON2 = "Detectron2's Panoptic-DeepLab ResNet-50"
_TORCHVISION = "torchvision's DeepLabV3 ResNet-50 (classes alone)"
_MASK2FORMER = "Hugging Face's Mask2Former Swin-T"
_EOMT = "Hugging Face's EoMT-S"
_PEERS = {
    "Panoptic-DeepLab ResNet-50": (_DETECTRON2, _TORCHVISION),
    "MaX-DeepLab-S": (_MASK2FORMER, _EOMT),
    "kMaX-DeepLab ResNet-50": (_MASK2FORMER, _EOMT),
}


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    for side in (129,) if args.quick else (641, 1025):
        yield from _rows_of_size(side, args)


def _rows_of_size(side: int, args: Any) -> Iterator[Dict[str, Any]]:
    image = make_scene(1, side, side)[1].to(args.device)
    models = {name: our_model(_FOLDER + path, args.device) for name, path in _OURS.items()}
    calls = {name: _detectron2_call(model, image) for name, model in models.items()}
    calls.update(_peer_calls(image[:, : side - 1, : side - 1].contiguous()))
    with torch.inference_mode():
        for name, call in calls.items():
            if tuple(call().shape) not in ((side, side), (side - 1, side - 1)):
                raise RuntimeError(f"{name}: its map must have the size of the image {side}")
        times = measure_in_turns(calls, repeats=args.repeats, device=args.device)
        for name in _OURS:
            row = {"name": f"{name}, image to map, {side}x{side}", "measurement": times[name]}
            peers = [peer for peer in _PEERS[name] if peer in times]
            for peer in peers:
                yield {**row, "peer": peer, "peer_seconds": times[peer].seconds}
            if not peers:
                yield row
            parts = {} if args.device != "cpu" else _parts(models[name], calls[name], args.repeats)
            for part, found in parts.items():
                yield {"name": f"... of which {part}", "measurement": found}
    order = sorted(times, key=lambda name: times[name].seconds)
    words = (f"{name} {format_seconds(times[name].seconds)}" for name in order)
    print(f"fastest first at {side}x{side}: {'; '.join(words)}", flush=True)


def _detectron2_call(model: nn.Module, image: Tensor) -> Call:
    """Of a meta architecture, ours or Detectron2's."""
    sample = {"image": image, "height": image.shape[1], "width": image.shape[2]}
    return lambda: model([sample])[0]["panoptic_seg"][0]


def _peer_calls(image: Tensor) -> Dict[str, Call]:
    """Image to map of every peer that is installed; the image is (3, S, S), S a multiple of 32."""
    size, device = (image.shape[1], image.shape[2]), image.device.type
    calls = {
        _DETECTRON2: _detectron2_call(
            detectron2_model(size, device, _NUM_CLASSES, "coco_2017_train_panoptic"), image
        ),
        _TORCHVISION: _torchvision_call(image),
    }
    try:
        import transformers
    except ImportError:
        print("Hugging Face's networks: left out, transformers is not installed")
        return calls
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    swin = transformers.SwinConfig(
        depths=[2, 2, 6, 2], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    mask2former = transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(backbone_config=swin, num_labels=_NUM_CLASSES)
    )
    eomt = transformers.EomtForUniversalSegmentation(
        transformers.EomtConfig(
            hidden_size=384,
            num_attention_heads=6,
            num_hidden_layers=12,
            num_blocks=3,
            num_labels=_NUM_CLASSES,
            image_size=size[0],
        )
    )
    stuff = list(range(80, _NUM_CLASSES))
    calls[_MASK2FORMER] = _transformers_call(
        mask2former,
        transformers.Mask2FormerImageProcessor(do_resize=False),
        image,
        label_ids_to_fuse=set(stuff),
    )
    calls[_EOMT] = _transformers_call(
        eomt, transformers.EomtImageProcessor(do_resize=False), image, stuff_classes=stuff
    )
    return calls


def _torchvision_call(image: Tensor) -> Call:
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    model = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=_NUM_CLASSES)
    model = model.to(image.device).eval()
    mean = torch.tensor([0.485, 0.456, 0.406], device=image.device).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=image.device).view(3, 1, 1)
    return lambda: model(((image / 255.0 - mean) / std)[None])["out"].argmax(dim=1)[0]


def _transformers_call(model: nn.Module, processor: Any, image: Tensor, **options: Any) -> Call:
    size = tuple(image.shape[1:])
    model = model.to(image.device).eval()

    def call() -> Tensor:
        inputs = processor(images=image, return_tensors="pt")
        outputs = model(pixel_values=inputs["pixel_values"])
        found = processor.post_process_panoptic_segmentation(
            outputs, target_sizes=[size], **options
        )
        return found[0]["segmentation"]

    return call


def _parts(model: nn.Module, call: Call, repeats: int) -> Dict[str, Measurement]:
    """Of ours on a CPU: the backbone, the head and its parts, and what is no module."""
    parts = {f"the head: its {name}": part for name, part in model.head.named_children()}
    modules = {"the backbone": model.backbone, "the head": model.head, **parts}
    times = time_parts({"": model, **modules}, call, repeats=repeats)
    whole, *rooms = times.pop(""), times["the backbone"], times["the head"]
    rest = [whole[index] - sum(room[index] for room in rooms) for index in range(2)]
    times["post-processing and normalisation of the image"] = (rest[0], rest[1], repeats)
    return {
        name: Measurement(*found, None)
        for name, found in times.items()
        if found[0] > _LEAST_PART * whole[0]
    }
