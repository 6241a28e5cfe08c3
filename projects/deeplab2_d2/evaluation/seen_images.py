"""Which images of a dataset have been predicted: each once, none left out."""

from typing import Any, Hashable, Iterable, Sequence, Set

from detectron2.utils import comm


class SeenImages:
    """Holds what comes against a dataset's images."""

    def __init__(self, images: Sequence[Hashable], dataset_name: str):
        """
        Args:
            images: what tells one image of the dataset from another.
            dataset_name: named in errors.

        Raises:
            ValueError: if an image is there twice.
        """
        self._name = dataset_name
        self._images = list(images)
        self._known = set(images)
        if len(self._known) < len(self._images):
            twice = next(i for i in self._images if self._images.count(i) > 1)
            raise ValueError(
                f"dataset {dataset_name} must have each image once, got {twice!r} twice"
            )
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._seen: Set[Any] = set()

    def add(self, image: Hashable) -> None:
        """
        Raises:
            ValueError: if the dataset has no such image, or it has come before.
        """
        if image not in self._known:
            raise ValueError(f"predictions must be of images of {self._name}, got {image!r}")
        if image in self._seen:
            raise ValueError(f"each image of {self._name} must come once, got {image!r} twice")
        self._seen.add(image)

    def check_complete(self) -> None:
        """
        Hold together what all processes have seen; to be called in each of them.

        Raises:
            ValueError: in the main process, if an image is missing, or two processes had it.
        """
        parts: Iterable[Set[Any]] = comm.gather(self._seen)
        if not comm.is_main_process():
            return
        seen: Set[Any] = set()
        for part in parts:
            if seen & part:
                twice = next(iter(seen & part))
                raise ValueError(
                    f"each image of {self._name} must come once, got {twice!r} in two processes"
                )
            seen |= part
        missing = [image for image in self._images if image not in seen]
        if missing:
            raise ValueError(
                f"every image of {self._name} must have a prediction, got none for {len(missing)} "
                f"of {len(self._images)}, such as {missing[0]!r}"
            )
