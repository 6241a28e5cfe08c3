"""Small inputs of MaX-DeepLab's losses."""

import torch

from deeplab2_d2.losses import build_mask_targets

THINGS, STUFF, VOID = [2, 3], [0, 1], 255


def random_targets(num_images=2, num_things=3, size=(4, 9), has_crowds=True, seed=0):
    """Masks of random pixels and void; the last thing of an image is absent."""
    generator = torch.Generator().manual_seed(seed)
    semantic = torch.randint(4, (num_images, *size), generator=generator)
    semantic[:, 0, :2] = VOID
    things = torch.full_like(semantic, -1)
    classes = torch.full((num_images, num_things), -1)
    for thing in range(num_things - 1):
        class_id = THINGS[thing % len(THINGS)]
        classes[:, thing] = class_id
        is_here = torch.rand(semantic.shape, generator=generator) < (0.5 if has_crowds else 2.0)
        things[(semantic == class_id) & is_here] = thing
    return make_targets(semantic, things, classes)


def make_targets(semantic, things, classes):
    """(N, H, W) class ids and numbers of things, (N, T) classes of things."""
    return build_mask_targets(
        semantic,
        things,
        classes,
        size=tuple(semantic.shape[1:]),
        thing_ids=THINGS,
        stuff_ids=STUFF,
        ignore_label=VOID,
    )


def random_outputs(targets, num_slots=6, dtype=torch.float64, seed=0):
    """Mask logits, class logits and unit features that need gradients."""
    generator = torch.Generator().manual_seed(seed)
    num_images, num_pixels = targets.mask_ids.shape

    def randn(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)

    features = torch.nn.functional.normalize(randn(num_images, 3, num_pixels), dim=1)
    outputs = (
        randn(num_images, num_slots, num_pixels),
        randn(num_images, num_slots, len(THINGS) + len(STUFF) + 1),
        features,
    )
    return [output.requires_grad_() for output in outputs]
