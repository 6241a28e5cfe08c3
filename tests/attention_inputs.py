"""Inputs of axial attention, and how near its results must be."""

import torch

TOLERANCES = {
    # Sums of some hundred terms of size 1 to 10.
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
    torch.float32: {"rtol": 1e-4, "atol": 1e-4},
    # Half a unit of the last place of 8 and of 11 bits, of what is written.
    torch.bfloat16: {"rtol": 2**-8, "atol": 1e-3},
    torch.float16: {"rtol": 2**-11, "atol": 1e-3},
}


def arguments(seed, *, images=1, others=2, length=5, heads=2, depths=(3, 4), dtype=torch.float64):
    """The tensors in their order, and the depth of all values."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    exact = torch.float64 if dtype == torch.float64 else torch.float32
    key_depth, value_depth = depths
    channels = heads * (2 * key_depth + value_depth)
    raw = noise(images, channels, length, others).to(dtype).transpose(2, 3)
    others = (
        *(1 + 0.3 * noise(channels), 0.3 * noise(channels)),
        *(0.5 * noise(3, heads), noise(heads)),
        *(noise(2 * length - 1, depth) for depth in (key_depth, key_depth, value_depth)),
    )
    return [raw, *(values.to(exact) for values in others)], heads * value_depth
