"""Detectron2's checkpointer with DeepLab2's checkpoints, whole files and weights that must fit."""

import logging
import os
from typing import Any, Dict, List, Optional
from urllib.error import URLError

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..structures import atomic_path
from .archive import ARCHIVE_ENDINGS
from .carried_config import CONFIG_KEY
from .classes import CLASSES_KEY
from .deeplab2_checkpoint import find_prefix
from .imagenet_resnet import adopt_imagenet_resnet
from .library_weights import adopt_library_weights
from .load import LoadReport, compare_shapes, is_start, is_weight, summarize_names
from .pickled_file import load_pkl, load_pth
from .run_folder import find_newest, read_tag
from .saving import save_pth
from .sorted_table import CheckpointFormatError
from .surgery import give_to_twins, inflatable_stem, inflate_stem
from .torchvision_resnet import fit_torchvision_resnet, is_torchvision_resnet
from .weights_file import (
    AUTHOR,
    named_arrays,
    named_by_pycls,
    published_weights,
    read_weights,
)
from .zoo_cache import refuse_planted

logger = logging.getLogger(__name__)

# Rows of a table that an error or a log shows.
_MAX_ROWS = 40


class DeepLab2Checkpointer(DetectionCheckpointer):
    """
    Load and save a model.

    Loads, beside what Detectron2 does, ``deeplab2://NAME`` (the zoo), DeepLab2's TensorFlow
    checkpoints (prefix, index file, folder, archive), .safetensors, and torchvision's ResNets into
    Detectron2's. What it saves appears when it is whole: an interrupt or a full disk leaves the
    checkpoints before.

    Args:
        model: the model.
        save_dir: folder of this run's checkpoints.
        allow_partial: load what fits of weights that do not fit the model, instead of refusing.
        classes: of the dataset, kept in what is saved; see :func:`classes_of_dataset`.
        config: of the model, as YAML, kept in what is saved.
        checkpointables: as in Detectron2.

    Attributes:
        unloaded: names of the model's weights that the last :meth:`load` has given no values, so
            that they are what the model was built with: random.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        allow_partial: bool = False,
        classes: Optional[Dict[str, Any]] = None,
        config: Optional[str] = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self._kept = {CLASSES_KEY: classes, CONFIG_KEY: config}
        self._allow_partial = allow_partial
        self.unloaded: List[str] = []
        self._found: Optional[str] = None
        self._source = ""  # What is loaded or checked, for errors.

    def load(self, path: str, checkpointables: Optional[List[str]] = None) -> Dict[str, Any]:
        """
        Load weights and what else was saved.

        Args:
            path: file, prefix, folder or address. "" loads nothing.
            checkpointables: names of what else to load; None for all.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            CheckpointFormatError: if it is cut short or damaged; the message offers the newest
                whole one of its folder.
            ValueError: if weights and model differ, with the table of names.
        """
        self.unloaded = [name for name in self.model.state_dict() if is_weight(name)]
        path = self._locate(path)
        rest = super().load(path, checkpointables)
        if self.unloaded:
            given = path or "MODEL.WEIGHTS '', from scratch"
            parts = summarize_names(self.unloaded)
            logger.warning("%s: these weights of the model stay random: %s", given, parts)
        return rest

    def check(self, path: str) -> None:
        """
        Hold a checkpoint against the model, which may be on the meta device, and load nothing.

        Weights whose names are guessed (Caffe2's) are only read.

        Args:
            path: see :meth:`load`.

        Raises:
            FileNotFoundError, CheckpointFormatError, ValueError: as :meth:`load`.
        """
        if path:
            self._fit(self._load_file(self._locate(path)))

    def _locate(self, path: str) -> str:
        """The file of a path; "" for ""."""
        self._source = path
        if not path:
            return path
        try:
            local = self.path_manager.get_local_path(path)
        except URLError as error:
            raise OSError(f"MODEL.WEIGHTS {path} cannot be fetched: {error.reason}") from error
        refuse_planted(local)
        prefix = find_prefix(local)
        if prefix is None and not os.path.isfile(local):
            raise FileNotFoundError(f"MODEL.WEIGHTS {path}: no such checkpoint")
        return local if prefix is None else prefix + ".index"

    def has_checkpoint(self) -> bool:
        """Whether the run's folder has a checkpoint to go on from."""
        return bool(self.get_checkpoint_file())

    def newest_name(self) -> str:
        """What ``last_checkpoint`` names; "" for nothing."""
        return read_tag(self.save_dir)

    def get_checkpoint_file(self) -> str:
        """
        The newest checkpoint of the run's folder: what ``last_checkpoint`` names.

        Where that file is lost or names none, it is the newest whole one there, with a warning, so
        that a resumed run neither begins again nor overwrites what there is.

        Returns:
            Its path, or "" where there is none.

        Raises:
            ValueError: if ``last_checkpoint`` names something outside of the folder, or if none of
                the checkpoints there is whole.
        """
        name = read_tag(self.save_dir)
        path = os.path.join(self.save_dir, name)
        if name and os.path.isfile(path):
            return path
        if self._found is None:
            self._found = find_newest(self.save_dir) if self.save_dir else ""
            if self._found:
                lost = f"names {name!r}, which is not there" if name else "is lost or empty"
                tag = os.path.join(self.save_dir, "last_checkpoint")
                message = "%s %s; resuming from the newest whole checkpoint, %s"
                logger.warning(message, tag, lost, self._found)
        return self._found

    def save(self, name: str, **kwargs: Any) -> None:
        """
        Save the model and all checkpointables as ``name``.pth in the run's folder.

        Args:
            name: without ending.
            kwargs: more to keep in the file.

        Raises:
            OSError: if it cannot be written; the message offers the newest whole one.
        """
        self._write(name, kwargs, is_last=True)

    def keep(self, name: str, **kwargs: Any) -> None:
        """As :meth:`save`, but a resumed run does not go on from it."""
        self._write(name, kwargs, is_last=False)

    def _write(self, name: str, extra: Dict[str, Any], *, is_last: bool) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        data: Dict[str, Any] = {"model": self.model.state_dict()}
        data.update({key: value for key, value in self._kept.items() if value is not None})
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        try:
            save_pth(path, {**data, **extra})
            if is_last:
                self.tag_last_checkpoint(os.path.basename(path))
        except OSError as error:
            what = f"{error.strerror or error}, so that no checkpoint was written"
            raise OSError(error.errno, what + self._offer_another(path), path) from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the newest checkpoint in ``last_checkpoint``; a folder of that name makes way."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        if os.path.isdir(path):
            logger.warning("%s is a folder, and becomes %s.folder", path, path)
            os.rename(path, path + ".folder")
        with atomic_path(path) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(last_filename_basename)

    def _load_file(self, filename: str) -> Dict[str, Any]:
        if filename.endswith((".index", ".safetensors") + ARCHIVE_ENDINGS):
            weights, unknown = read_weights(filename)
            adopted = adopt_library_weights(weights, self.model)
            if adopted is not None:
                return {"model": adopted, "is_adopted": True}
            return {"model": weights, "__author__": AUTHOR, "unknown": unknown}
        if filename.endswith(".pkl"):
            return named_arrays(load_pkl(filename))
        try:
            loaded = load_pth(filename)
        except CheckpointFormatError as error:
            raise CheckpointFormatError(
                filename, error.offset, error.reason + self._offer_another(filename)
            ) from error
        if filename.endswith(".pyth"):
            return named_by_pycls(loaded)
        adopted = adopt_library_weights(loaded, self.model)
        if adopted is not None:
            return {"model": adopted, "is_adopted": True}
        renamed, unknown = published_weights(loaded)
        return {**(loaded if "model" in loaded else {}), "model": renamed, "unknown": unknown}

    def _load_model(self, checkpoint: Dict[str, Any]) -> Any:
        report = self._fit(checkpoint)
        if report is not None and not report.is_complete:
            logger.warning("weights: %s\n%s", report.summary(), report.table(_MAX_ROWS))
        incompatible = super()._load_model(checkpoint)
        mismatched = [name for name, *_ in incompatible.incorrect_shapes]
        missing = [*incompatible.missing_keys, *mismatched]
        self.unloaded = [name for name in missing if is_weight(name)]
        return incompatible

    def _fit(self, checkpoint: Dict[str, Any]) -> Optional[LoadReport]:
        """
        Bring a checkpoint's weights, in place, to the names and shapes of the model.

        Returns:
            How they fit; None where names are guessed while loading.

        Raises:
            ValueError: if weights and model differ, with the table of names.
        """
        unknown = checkpoint.pop("unknown", [])
        twins = getattr(self.model, "twins", {})
        is_adopted = checkpoint.pop("is_adopted", False)
        ours = None
        if not is_adopted:
            ours = adopt_imagenet_resnet(checkpoint, self.model, self._allow_partial)
        if ours is not None:
            checkpoint["model"], is_adopted = ours, True
            checkpoint.pop("matching_heuristics", None)
            checkpoint.pop("__author__", None)
        is_resnet = is_torchvision_resnet(checkpoint["model"], self.model)
        if is_resnet:
            checkpoint["model"] = fit_torchvision_resnet(
                checkpoint["model"], self.model, twins, self._allow_partial
            )
        if twins:
            checkpoint["model"] = give_to_twins(
                checkpoint["model"],
                self.model.state_dict(),
                twins,
                has_guessed_names=checkpoint.pop("matching_heuristics", False),
                is_caffe2=checkpoint.get("__author__") == "Caffe2",
            )
        if checkpoint.get("matching_heuristics", False):
            return None
        report = self._compare(checkpoint["model"])
        stem = inflatable_stem(report.mismatched)
        if stem is not None:
            logger.warning("weights: the new input channels of %s start at 0", stem)
            channels = report.mismatched[stem][1][1]
            checkpoint["model"] = inflate_stem(checkpoint["model"], channels)
            report = self._compare(checkpoint["model"])
        report.unused[:0] = unknown
        is_usable = is_resnet or report.is_complete or is_start(report, self.model)
        # A backbone has said that it is all of it; a pyramid on it learns from random weights.
        is_usable = is_usable or (is_adopted and not report.mismatched)
        if not (self._allow_partial or is_usable):
            raise ValueError(
                f"MODEL.WEIGHTS {self._source}: the weights do not fit the model "
                f"({report.summary()}); to load what fits, set "
                f"MODEL.DEEPLAB2.PARTIAL_WEIGHTS True\n{report.table(_MAX_ROWS)}"
            )
        return report

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        pass  # Told as one table, before the weights are loaded.

    def _compare(self, weights: Dict[str, Any]) -> LoadReport:
        state = {name: tuple(value.shape) for name, value in self.model.state_dict().items()}
        prefix = "module." if all(name.startswith("module.") for name in weights) else ""
        shapes = {name[len(prefix) :]: tuple(value.shape) for name, value in weights.items()}
        report = compare_shapes(shapes, state)
        for names in (report.missing, report.unused):
            names[:] = [name for name in names if name not in ("pixel_mean", "pixel_std")]
        return report

    def _offer_another(self, path: str) -> str:
        try:
            newest = find_newest(os.path.dirname(path))
        except CheckpointFormatError:
            newest = ""
        return f"; the newest whole one is {newest}" if newest else ""

    def describe_newest(self) -> str:
        """Words that offer the newest whole checkpoint of the run's folder; "" without one."""
        return self._offer_another(os.path.join(self.save_dir, "last_checkpoint"))
