"""Depthwise convolutions with a bias and ReLU on a CPU, beside oneDNN's in one operation."""

from typing import Any, Dict, Iterator

import torch
from measuring import measure_in_turns

# Channels, size, kernel size and atrous rate: of MobileNetV3-L's stages at strides 4, 8 and 16, of
# Panoptic-DeepLab's decoders, and of a separable ASPP, for an image of 513x1025.
LAYERS = [
    (72, (129, 257), 3, 1),
    (120, (65, 129), 5, 1),
    (480, (33, 65), 3, 1),
    (672, (33, 65), 5, 1),
    (960, (33, 65), 5, 2),
    (320, (65, 129), 5, 1),
    (288, (129, 257), 5, 1),
    (128, (129, 257), 5, 1),
    (2048, (33, 65), 3, 6),
    (2048, (33, 65), 3, 12),
]


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    """``--quick`` takes an eighth of the channels."""
    from deeplab2_d2 import ops

    if args.device != "cpu":
        print("depthwise convolutions: skipped, --device is not cpu")
        return
    for channels, size, kernel_size, rate in LAYERS:
        channels = channels // 8 if args.quick else channels
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(1, channels, *size, generator=generator)
        features = features.contiguous(memory_format=torch.channels_last)
        # The channels are last in memory.
        taps = torch.randn(kernel_size, kernel_size, channels, generator=generator)
        kernel, bias = taps.permute(2, 0, 1), torch.randn(channels, generator=generator)
        weight = kernel[:, None].contiguous(memory_format=torch.channels_last)
        axes = {"padding": [rate * (kernel_size // 2)] * 2, "dilation": [rate] * 2}

        def ours(features=features, kernel=kernel, bias=bias, axes=axes):
            return ops.depthwise_convolution(features, kernel, bias, **axes, activation="relu")

        def peers(features=features, weight=weight, bias=bias, axes=axes):
            return torch.ops.mkldnn._convolution_pointwise(
                *(features, weight, bias, axes["padding"], [1, 1], axes["dilation"]),
                *(len(weight), "relu", [], ""),
            )

        with torch.inference_mode():
            torch.testing.assert_close(ours(), peers(), rtol=1e-4, atol=1e-4)
            found = measure_in_turns({"ours": ours, "peer": peers}, repeats=args.repeats)
        yield {
            "name": f"{kernel_size}x{kernel_size} at rate {rate}, {channels} channels, "
            f"{size[0]}x{size[1]}",
            "measurement": found["ours"],
            "peer": "oneDNN",
            "peer_seconds": found["peer"].seconds,
        }
