"""Writing what ``torch.load`` reads."""

from typing import Any

import torch

from ..structures import atomic_path


def save_pth(path: str, content: Any) -> None:
    """
    Write a file of PyTorch, whole or not at all.

    Args:
        path: the file. Its folder is made.
        content: what it holds.

    Raises:
        OSError: naming the file and the reason, as of a full disk.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # PyTorch's writer stumbles over what it could not write, and hides why.
            reason = error.__context__
            if not isinstance(reason, OSError):
                raise
            raise OSError(reason.errno, reason.strerror, path) from error
