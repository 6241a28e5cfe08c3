"""Maximum pooling of 3x3 pixels, with Caffe's sizes where they are wanted."""

from torch import nn


def build_max_pool(stride: int, *, rounds_up: bool) -> nn.MaxPool2d:
    """
    The 3x3 maximum with a pixel of padding, so that the windows are centered on pixels.

    Args:
        stride: 1 or 2.
        rounds_up: as Caffe, a map of an even side ends in a further window that is centered beyond
            it, so that it has a row or column more: n / 2 + 1 instead of n / 2. Odd sides, such as
            1 + a multiple of a stride, do not differ.
    """
    return nn.MaxPool2d(3, stride=stride, padding=1, ceil_mode=rounds_up)
