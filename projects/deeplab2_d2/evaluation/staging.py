"""Files of an evaluation that appear together, when it is done."""

import os
import shutil

from detectron2.utils import comm


class Staging:
    """
    Files that this process writes beside their folder, until those of all processes are there.

    So an interrupted run leaves the files of the run before as they are.
    """

    def __init__(self, folder: str):
        """
        Args:
            folder: where the files will be.
        """
        self.folder = folder
        # Where they are written; folders in it become folders there.
        self.path = f"{folder}.partial-{comm.get_rank()}"

    def clear(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(self.path)

    def publish(self) -> None:
        """Move the files into their folder."""
        for path, _, names in os.walk(self.path):
            folder = os.path.normpath(os.path.join(self.folder, os.path.relpath(path, self.path)))
            os.makedirs(folder, exist_ok=True)
            for name in names:
                os.replace(os.path.join(path, name), os.path.join(folder, name))
        shutil.rmtree(self.path)
