"""Files of an evaluation, which appear together in place of those of a run before."""

import contextlib
import itertools
import json
import os
import shutil
from typing import List

from detectron2.utils import comm

from ..structures import write_json


class Staging:
    """
    Files that this process writes beside their folder, until those of all processes are there.

    So an interrupted run leaves the files of the run before as they are. Which files a run has put
    into the folder stands beside it, in ``<folder>.files.json``: the next run removes them, also
    where it has fewer, and no other.
    """

    def __init__(self, folder: str):
        """
        Args:
            folder: where the files will be.
        """
        self.folder = folder
        # Where they are written; folders in it become folders there.
        self.path = f"{folder}.partial-{comm.get_rank()}"
        self._list = f"{folder}.files.json"

    def clear(self) -> None:
        """
        Begin anew.

        Raises:
            ValueError: if the list of the files of a run before is damaged.
        """
        self._read_earlier()
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(self.path)

    def publish(self) -> None:
        """Move the files of all processes into the folder, in place of those of the run before."""
        own = self._files()
        names = list(itertools.chain(*comm.all_gather(own)))
        if comm.is_main_process():
            for name in self._read_earlier():
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(self.folder, name))
            # Before they are moved, so that the next run knows of them if this one is interrupted.
            write_json(self._list, sorted(names), indent=0)
        comm.synchronize()
        for name in own:
            target = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(os.path.join(self.path, name), target)
        shutil.rmtree(self.path)

    def _files(self) -> List[str]:
        """Of this process, relative to the folder."""
        return [
            os.path.normpath(os.path.join(os.path.relpath(path, self.path), name))
            for path, _, names in os.walk(self.path)
            for name in names
        ]

    def _read_earlier(self) -> List[str]:
        if not os.path.exists(self._list):
            return []
        try:
            with open(self._list, encoding="utf-8") as file:
                names = [os.path.normpath(name) for name in json.load(file)]
            if any(os.path.isabs(name) or name.split(os.sep)[0] == os.pardir for name in names):
                raise ValueError("a file outside of the folder")
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self._list} must list the files that a run before has put into {self.folder}, "
                f"got another or a damaged file ({error}); move both away"
            ) from error
        return names
