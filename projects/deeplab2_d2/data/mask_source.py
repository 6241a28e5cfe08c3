"""Images of a folder, and their instances in a folder of masks for each."""

import glob
import os
from typing import List, Optional

from ..structures import IMAGE_ENDINGS, list_image_names
from .annotated_images import AnnotatedImage
from .mask_files import check_mask_folders, masks_in, parse_mask_name


def list_images(image_root: str, suffix: str = "") -> List[str]:
    """
    The images of a folder, sorted; hidden files, such as macOS' ``._photo.jpg``, are none.

    Args:
        image_root: the folder.
        suffix: what their names end in, as Cityscapes' ``_leftImg8bit.png``; folders in the folder
            are then looked through, too. "": any image of the folder itself.

    Raises:
        FileNotFoundError: if there is none.
    """
    if suffix:
        pattern = os.path.join(glob.escape(image_root), "**", f"*{glob.escape(suffix)}")
        files = sorted(glob.glob(pattern, recursive=True))
        names = [os.path.relpath(file, image_root) for file in files]
    else:
        names = list_image_names(image_root)
    if not names:
        wanted = f"*{suffix}" if suffix else ", ".join(IMAGE_ENDINGS)
        raise FileNotFoundError(f"folder {image_root} has no image ({wanted})")
    return names


def images_with_masks(image_root: str, mask_root: Optional[str]) -> List[AnnotatedImage]:
    """
    Images of a folder with masks in ``<mask_root>/<image without its ending>/``.

    A mask's file is named by its class: ``apple.png``, ``apple_1.png``, ...; ``apple_crowd.png``
    and ``apple_crowd_1.png`` are crowds.

    Args:
        image_root: folder of the images.
        mask_root: folder of the masks; None for images without instances.

    Returns:
        the images in the order of their names; one without a folder has no instances.

    Raises:
        FileNotFoundError: if ``image_root`` has no image, or ``mask_root`` no folder of any.
        ValueError: if there are other files than PNGs among the masks.
    """
    names = list_images(image_root)
    if mask_root is None:
        return [AnnotatedImage(name) for name in names]
    stems = [os.path.splitext(name)[0] for name in names]
    check_mask_folders(mask_root, stems)
    return [
        AnnotatedImage(
            name, [parse_mask_name(file) for file in masks_in(os.path.join(mask_root, stem))]
        )
        for name, stem in zip(names, stems)
    ]
