"""
The dense CRF on a CPU, normalised as DeepLab does: ours and, where it is installed, pydensecrf.

`pip install pydensecrf2==1.1` builds the one that works with Python 3.11; it needs a C++ compiler.
"""

from dataclasses import asdict
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from measuring import measure
from torch import Tensor

from deeplab2_d2 import ops
from deeplab2_d2.postprocessing import CRFOptions

OPTIONS = CRFOptions()


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    sizes = [(21, 47, 63)] if args.quick else [(21, 375, 500), (19, 1024, 2048)]
    for classes, height, width in sizes:
        logits, image = make_scene(classes, height, width)
        theirs, peer_seconds = pydensecrf(logits, image), None
        if theirs is not None:
            check_equal(logits, image, theirs)
            peer_seconds = measure(theirs, repeats=args.repeats).seconds
        for threads in sorted({1, args.threads}):
            torch.set_num_threads(threads)
            row: Dict[str, Any] = {
                "name": f"dense CRF of {height}x{width}, {classes} classes, "
                f"{OPTIONS.num_iterations} iterations, threads: {threads}",
                "measurement": measure(lambda: run(logits, image), repeats=args.repeats),
            }
            if peer_seconds is not None:
                row.update(peer="pydensecrf, one thread", peer_seconds=peer_seconds)
            yield row
        torch.set_num_threads(args.threads)


def run(logits: Tensor, image: Tensor) -> Tensor:
    return ops.dense_crf(logits, image, **asdict(OPTIONS))


def make_scene(classes: int, height: int, width: int) -> Tuple[Tensor, Tensor]:
    """Coarse scores, and an image with the spectrum of photographs: noise of every scale."""
    generator = torch.Generator().manual_seed(0)

    def noise(channels: int, side: int) -> Tensor:
        coarse = torch.randn(
            1, channels, height // side + 2, width // side + 2, generator=generator
        )
        return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)[0]

    # Colors share most of their contrast.
    gray = sum(noise(1, 2**octave) * 2.0 ** (octave - 7) for octave in range(8))
    colors = sum(noise(3, 2**octave) * 2.0 ** (octave - 7) for octave in range(2, 8))
    image = (120 + 30 * gray + 10 * colors).clamp(0, 255).byte()
    return (3 * noise(classes, 8)).contiguous(), image


def pydensecrf(logits: Tensor, image: Tensor) -> Optional[Callable[[], np.ndarray]]:
    """The same by pydensecrf; None where it is not installed."""
    try:
        import pydensecrf.densecrf as crf
    except ImportError:
        return None
    classes, height, width = logits.shape
    unary = np.ascontiguousarray(-logits.flatten(1).numpy())
    colors = np.ascontiguousarray(image.permute(1, 2, 0).numpy())

    def call() -> np.ndarray:
        model = crf.DenseCRF2D(width, height, classes)
        model.setUnaryEnergy(unary)
        model.addPairwiseGaussian(
            sxy=OPTIONS.theta_gamma, compat=OPTIONS.w2, normalization=crf.NORMALIZE_AFTER
        )
        model.addPairwiseBilateral(
            sxy=OPTIONS.theta_alpha,
            srgb=OPTIONS.theta_beta,
            rgbim=colors,
            compat=OPTIONS.w1,
            normalization=crf.NORMALIZE_AFTER,
        )
        marginals = np.array(model.inference(OPTIONS.num_iterations))
        return marginals.reshape(classes, height, width)

    return call


def check_equal(logits: Tensor, image: Tensor, theirs: Callable[[], np.ndarray]) -> None:
    difference = np.abs(run(logits, image).numpy() - theirs()).mean()
    if difference > 1e-5:
        raise RuntimeError(f"marginals differ from pydensecrf's by {difference} on average")
