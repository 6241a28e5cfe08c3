"""
Mean field of a fully connected CRF: on permutohedral lattices, as the kernel, and exactly.

The lattice is that of Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the
Permutohedral Lattice" (Eurographics 2010).
"""

import math
from typing import Callable, List, Sequence, Tuple

import torch
from torch import Tensor

# (P, C) values to the sums over all pixels, weighted by a kernel.
Filter = Callable[[Tensor], Tensor]


def dense_crf(
    logits: Tensor,
    image: Tensor,
    *,
    num_iterations: int,
    weights: Sequence[float],
    thetas: Sequence[float],
    normalization: str,
) -> Tensor:
    """
    See `deeplab2_d2.ops.dense_crf`; ``weights`` are w1 and w2, ``thetas`` alpha, beta and gamma.

    Raises:
        ValueError: if a value is not finite.
    """
    for name, tensor in (("logits", logits), ("image", image)):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"dense_crf: {name} must be finite, got NaN or infinity")
    filters = [
        (weight, lattice_filter(points.float().double()))
        for weight, points in kernel_points(image, weights, thetas)
    ]
    return mean_field(logits, filters, num_iterations, normalization)


def exact_dense_crf(
    logits: Tensor,
    image: Tensor,
    *,
    num_iterations: int,
    weights: Sequence[float],
    thetas: Sequence[float],
    normalization: str,
    with_self: bool = True,
) -> Tensor:
    """
    The same with every pair of pixels: what the lattice approximates, for small images.

    Args:
        with_self: whether a pixel is its own neighbor, as it is on a lattice.
    """
    filters = []
    for weight, points in kernel_points(image, weights, thetas):
        kernel = torch.exp(-0.5 * torch.cdist(points, points).square()).to(logits.dtype)
        if not with_self:
            kernel.fill_diagonal_(0.0)
        filters.append((weight, kernel.matmul))
    return mean_field(logits, filters, num_iterations, normalization)


def kernel_points(
    image: Tensor, weights: Sequence[float], thetas: Sequence[float]
) -> List[Tuple[float, Tensor]]:
    """The weight of each kernel that has one, and the (P, 5) or (P, 2) float64 points it is of."""
    height, width = image.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((x, y)).flatten(1).double()
    colors = image.flatten(1).float().double()
    alpha, beta, gamma = thetas
    bilateral = torch.cat((places / alpha, colors / beta)).T
    kernels = [(weights[0], bilateral), (weights[1], (places / gamma).T)]
    return [(weight, points) for weight, points in kernels if weight > 0]


def mean_field(
    logits: Tensor,
    filters: Sequence[Tuple[float, Filter]],
    num_iterations: int,
    normalization: str,
) -> Tensor:
    """
    Marginals (C, H, W) after some rounds.

    Args:
        filters: weight and kernel of each part of the pairwise energy.
        num_iterations, normalization: see `deeplab2_d2.ops.dense_crf`.
    """
    scores = logits.flatten(1).T
    parts = []
    for weight, kernel in filters:
        sums = kernel(torch.ones_like(scores[:, :1]))
        before = sums.rsqrt() if normalization == "symmetric" else torch.ones_like(sums)
        parts.append((weight, kernel, before, before if normalization == "symmetric" else 1 / sums))
    marginals = scores.softmax(dim=1)
    for _ in range(num_iterations):
        messages = scores.clone()
        for weight, kernel, before, after in parts:
            messages += weight * after * kernel(before * marginals)
        marginals = messages.softmax(dim=1)
    return marginals.T.reshape(logits.shape).contiguous()


def lattice_filter(points: Tensor) -> Filter:
    """A Gaussian of standard deviation 1 over (P, d) float64 points, times a constant."""
    num_pixels, d = points.shape
    vertices, shares, neighbors = build_lattice(points)
    num_rows = neighbors.shape[1]

    def run(values: Tensor) -> Tensor:
        weights = shares.to(values.dtype)[:, :, None]
        # Row 0 stands for all that is no vertex.
        table = values.new_zeros(num_rows + 1, values.shape[1])
        table.index_add_(0, vertices.flatten(), (weights * values[:, None]).flatten(0, 1))
        for pairs in neighbors:
            table[1:] = table[1:] + 0.5 * (table[pairs[:, 0]] + table[pairs[:, 1]])
        return (weights * table[vertices]).sum(dim=1)

    return run


def build_lattice(points: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """
    Returns:
        Rows (P, d + 1) of each point's simplex, counted from 1; its barycentric coordinates
        (P, d + 1); and for each of the d + 1 directions the rows on either side of every row,
        (d + 1, rows, 2), 0 where there is none.
    """
    keys, shares = find_simplices(points)
    d = points.shape[1]
    flat = keys.flatten(0, 1)
    vertices, rows = torch.unique(flat, dim=0, return_inverse=True)
    steps = torch.ones(d + 1, d + 1, dtype=torch.int64) - (d + 1) * torch.eye(d + 1).long()
    sides = torch.stack(
        [find_rows(vertices, vertices + sign * step) for step in steps for sign in (1, -1)]
    )
    sides = sides.view(d + 1, 2, len(vertices)).transpose(1, 2)
    return rows.view(len(points), d + 1) + 1, shares, sides


def find_simplices(points: Tensor) -> Tuple[Tensor, Tensor]:
    """The lattice points (P, d + 1, d + 1) of each point's simplex, and its shares (P, d + 1)."""
    num_points, d = points.shape
    elevated = elevate(points)
    cells = torch.floor(elevated / (d + 1) + 0.5)
    rest = elevated / (d + 1) - cells
    # Rank 0 is the coordinate farthest above its cell's; of equals the first.
    order = rest.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(d + 1).expand_as(order))
    rank = rank + cells.sum(dim=1, keepdim=True).long()
    # Rounded cells may have another sum than 0: the farthest go on to the next cell.
    carry = (rank < 0).long() - (rank > d).long()
    rank, cells, rest = rank + carry * (d + 1), cells.long() + carry, rest - carry
    ranked = torch.empty_like(rest).scatter_(1, rank, rest)
    shares = torch.cat(
        (1 - (ranked[:, :1] - ranked[:, -1:]), (ranked[:, :-1] - ranked[:, 1:]).flip(1)), dim=1
    )
    remainders = torch.arange(d + 1)[:, None]
    is_next = rank[:, None] > d - remainders
    keys = (d + 1) * (cells[:, None] - is_next.long()) + remainders
    return keys, shares


def elevate(points: Tensor) -> Tensor:
    """(P, d) to (P, d + 1) of sum 0, in units where the blur has the points' standard deviation."""
    d = points.shape[1]
    index = torch.arange(1, d + 1, dtype=torch.float64)
    # Divided, not multiplied by a reciprocal, as the kernel does: points on the border of simplices
    # must have the same one.
    scale = torch.full_like(index, (d + 1) * math.sqrt(2 / 3)).div((index * (index + 1)).sqrt())
    scaled = points * scale
    sums = scaled.flip(1).cumsum(1).flip(1)
    zeros = torch.zeros_like(scaled[:, :1])
    return torch.cat((sums, zeros), 1) - torch.cat((zeros, index * scaled), 1)


def find_rows(vertices: Tensor, wanted: Tensor) -> Tensor:
    """Row + 1 of each wanted vertex among unique ones, 0 if it is not there."""
    both, index = torch.unique(torch.cat((vertices, wanted)), dim=0, return_inverse=True)
    table = torch.zeros(len(both), dtype=torch.int64)
    table[index[: len(vertices)]] = torch.arange(1, len(vertices) + 1)
    return table[index[len(vertices) :]]
