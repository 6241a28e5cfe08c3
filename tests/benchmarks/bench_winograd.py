"""3x3 convolutions by minimal filtering, with bias and ReLU, beside oneDNN's direct sums."""

from typing import Any, Dict, Iterator

import torch
from measuring import measure_in_turns

# Channels in and out, size and atrous rate: of MaX-DeepLab's stem, of ResNet-50's stages for an
# image of 513x1025, the last ones atrous, of SWideRNet, and of the first rate of an ASPP.
LAYERS = [
    (64, 128, (321, 321), 1),
    (64, 64, (129, 257), 1),
    (128, 128, (65, 129), 1),
    (256, 256, (33, 65), 1),
    (512, 512, (33, 65), 2),
    (512, 512, (33, 65), 4),
    (512, 512, (17, 33), 1),
    (1024, 1024, (33, 65), 1),
    (2048, 256, (33, 65), 6),
]


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    """``--quick`` takes an eighth of the channels."""
    from deeplab2_d2 import ops

    if args.device != "cpu":
        print("3x3 convolutions: skipped, --device is not cpu")
        return
    for channels, outputs, size, rate in LAYERS:
        if args.quick:
            channels, outputs = channels // 8, outputs // 8
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(1, channels, *size, generator=generator)
        features = features.contiguous(memory_format=torch.channels_last)
        # As a layer keeps it: input channels, then output channels are last in memory.
        taps = torch.randn(3, 3, channels, outputs, generator=generator) / (9 * channels) ** 0.5
        kernel, bias = taps.permute(3, 2, 0, 1), torch.randn(outputs, generator=generator)
        weight = kernel.contiguous(memory_format=torch.channels_last)

        def ours(features=features, kernel=kernel, bias=bias, rate=rate):
            return ops.winograd_convolution(
                features, kernel, bias, dilation=rate, activation="relu"
            )

        def peers(features=features, weight=weight, bias=bias, rate=rate):
            return torch.ops.mkldnn._convolution_pointwise(
                *(features, weight, bias, [rate] * 2, [1, 1], [rate] * 2, 1, "relu", [], ""),
            )

        with torch.inference_mode():
            torch.testing.assert_close(ours(), peers(), rtol=1e-4, atol=1e-4)
            found = measure_in_turns({"ours": ours, "peer": peers}, repeats=args.repeats)
        yield {
            "name": f"3x3 at rate {rate}, {channels} to {outputs} channels, {size[0]}x{size[1]}",
            "measurement": found["ours"],
            "peer": "oneDNN",
            "peer_seconds": found["peer"].seconds,
        }
