"""What a network predicts: a dict from names to tensors, each of a kind."""

from typing import Dict, Literal, Mapping

from torch import Tensor

# Name to (N, C, h, w), as a network's heads return it; the meaning of a name stands at its head.
Prediction = Dict[str, Tensor]

# How values behave where a map is cropped, resized, mirrored, averaged over views or drawn:
# - "logits": (N, C, h, w), a softmax over C gives probabilities;
# - "probability": (N, C, h, w), 0 to 1;
# - "heatmap": (N, 1, h, w), about 0 to 1;
# - "offset": (N, 2, h, w), (dy, dx) in pixels of this map, so that values change with its size;
# - "depth": (N, 1, h, w), in meters; what is magnified by a factor looks nearer by it;
# - "embedding": (N, D, h, w), of a meaning that no other view shares;
# - "slot_logits": (N, K, C), a softmax over C; of mask slots, not of pixels.
MapKind = Literal["logits", "probability", "heatmap", "offset", "depth", "embedding", "slot_logits"]


def select_images(prediction: Mapping[str, Tensor], index: int) -> Prediction:
    """
    The part of one image, as a batch of one.

    Args:
        prediction: name to (N, ...).
        index: of the image.
    """
    return {name: values[index : index + 1] for name, values in prediction.items()}
