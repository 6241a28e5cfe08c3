"""Our mean field for the cases of ``parity/crf``: exact, and on a permutohedral lattice."""

import re
from typing import Any, Dict, Mapping, Optional

import numpy as np
import torch
from torch import Tensor

from deeplab2_d2 import ops
from deeplab2_d2.ops.reference import exact_dense_crf

Arrays = Mapping[str, np.ndarray]

_EXACT = re.compile(r"out/exact_(symmetric|after)(?:_after_(\d+))?(_no_self)?")


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names."""
    params = case["params"]
    logits = -torch.from_numpy(arrays["in/unary"]).movedim(-1, 0).contiguous()
    image = torch.from_numpy(arrays["in/image"]).movedim(-1, 0)
    outputs: Dict[str, np.ndarray] = {}
    for name in arrays:
        match = _EXACT.fullmatch(name)
        if match:
            marginals = exact_dense_crf(
                logits.double(),
                image,
                num_iterations=int(match[2] or params["iterations"]),
                weights=[params["bi_w"], params["pos_w"]],
                thetas=[params["bi_xy_std"], params["bi_rgb_std"], params["pos_xy_std"]],
                normalization=match[1],
                with_self=match[3] is None,
            )
            outputs[name] = _channels_last(marginals)
    for name in case["distance_from_exact"]:
        if name.startswith("permutohedral/"):
            marginals = ops.dense_crf(
                logits,
                image,
                num_iterations=params["iterations"],
                w1=params["bi_w"],
                theta_alpha=params["bi_xy_std"],
                theta_beta=params["bi_rgb_std"],
                w2=params["pos_w"],
                theta_gamma=params["pos_xy_std"],
                normalization=name.rpartition("_")[2],
            )
            outputs[name] = _channels_last(marginals)
    return outputs


def _channels_last(marginals: Tensor) -> np.ndarray:
    return marginals.movedim(0, -1).numpy()
