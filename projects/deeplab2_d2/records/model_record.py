"""The record of a model: what configuration, data, checkpoints, pictures and engine ask of it."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..structures import Prediction
from .ranked_image import RankedImage

# Detectron2's dict of one image.
Sample = Mapping[str, Any]
# Dataset dicts of a batch to the outputs that evaluators take.
Predictor = Callable[[Sequence[Sample]], List[Dict[str, Any]]]


class DatasetMapper(Protocol):
    """
    From a dataset dict to a sample, or None where training leaves the image out; what is random is
    drawn from the generator alone.
    """

    @property
    def needs_partner(self) -> bool:
        """Whether a call needs a second dataset dict, of an image to paste from."""
        ...

    def __call__(
        self,
        dataset_dict: Dict[str, Any],
        rng: Optional[np.random.Generator] = None,
        partner: Optional[Dict[str, Any]] = None,
    ) -> Optional[Dict[str, Any]]: ...


class Pictures(Protocol):
    """What a model shows of an image beside its labels, as columns of a sheet."""

    @property
    def titles(self) -> Tuple[str, ...]:
        """Of the columns."""
        ...

    def draw_targets(self, segment_map: np.ndarray, segments: Any) -> List[np.ndarray]:
        """
        Args:
            segment_map: (H, W) int32, 0 = unlabeled, ``k + 1`` = segment ``k``.
            segments: the table of all segments.

        Returns:
            A picture (H, W, 3) uint8 a column, of what is to be predicted.
        """
        ...

    def draw_prediction(
        self, model: nn.Module, prediction: Prediction, images: Any, sample: Sample
    ) -> List[np.ndarray]:
        """A picture a column of raw maps; ``images`` are the network's input."""
        ...


class GraphInference(Protocol):
    """Raw maps to labels of the image, as operations that exporters write down."""

    def __call__(
        self, prediction: Prediction, stride: int, size: Tuple[int, int]
    ) -> Dict[str, Tensor]:
        """
        Args:
            prediction: raw maps of the model, of one image size in the batch.
            stride: pixels of the image per pixel of the maps, a power of two.
            size: (H, W) of the images, which stand top left in what the maps cover; may be symbols.

        Returns:
            ``panoptic_map`` (class * label divisor + number) and ``semantic_map`` (class), or the
            second alone: (N, H, W) int32, -1 for void.
        """
        ...


@dataclass(frozen=True)
class Averaging:
    """
    How predictions of several views and models are averaged.

    Attributes:
        at_input_size: maps are brought to the size of the network's input first, as DeepLab2 does;
            else to the size of the first view's maps.
        align: brings a prediction into the order of the first view's, where channels have no fixed
            meaning (mask slots): called with both, logits as probabilities; None leaves it.
        has_grid_of_image: maps of a view that is smaller than the image are first brought to the
            grid that the image's own have, as in Google's release of DeepLab v3+.
    """

    at_input_size: bool = True
    align: Optional[Callable[[Prediction, Prediction], Prediction]] = None
    has_grid_of_image: bool = False


@dataclass(frozen=True)
class ModelRecord:
    """
    What one meta architecture, and every subclass of it, brings along.

    A field that is None is answered by the asking room with what holds for any Detectron2 model.

    Attributes:
        add_config: adds the model's keys to a config that has the shared ones.
        check_config: refuses values that cannot work (ValueError naming key, rule and value).
        build_mapper: ``(cfg, is_train)`` to the dataset mapper; None: Detectron2's.
        has_detectron2_input: the mapper reads Detectron2's INPUT (MIN_SIZE_TRAIN, CROP, ...), not
            INPUT.DEEPLAB2 and a crop of INPUT.CROP.SIZE.
        has_own_input: the mapper makes samples of INPUT.CROP.SIZE by keys of its own, which
            ``check_config`` checks.
        outputs: which of ``sem_seg``, ``panoptic_seg``, ``instances`` (and further keys) a config's
            model returns; None: what MODEL.DEEPLAB2.POSTPROCESSING asks for.
        build_evaluators: ``(cfg, dataset name, folder)`` to evaluators of what its outputs have
            beside those three.
        averaging: how views and models are averaged; None: they cannot be.
        build_oracle: ``(cfg, dataset name)`` to the ground truth seen through the network's stride.
        build_pictures: config to the columns that sheets have for the model.
        slot_channels: of a model with mask slots, config to the channels of its pixel features; its
            predictions have ``mask_logits``, ``class_logits`` and ``pixel_features``, its inference
            is a :class:`deeplab2_d2.models.SlotInference`. None: it has no slots.
        rank_image: of a model that orders instances, ``(model, sample)`` to what it makes of the
            detections of an image; None: it orders none.
        build_graph: a model's post-processing for exported files; raises ValueError, naming the
            config key, where the model's cannot be written as a graph. None: it has none.
        checkpoint_modules: first words of DeepLab2's checkpoint keys, and the modules they name.
        state_dict_rules: names in other PyTorch repositories' models, and the modules they name,
            see :mod:`deeplab2_d2.checkpoint.state_dict_names`.
        state_dict_layouts: patterns of those names, and what makes our layout of name and value, or
            raises a ValueError that names the key.
        state_dict_notes: patterns of those names, and what is told when such weights are read.
        slim_scopes: patterns of scopes (or of whole names) in the name-based checkpoints of
            Google's release of DeepLab v3+, and the modules (or parameters) they name.
        last_layers: group ("semantic", "instance") to first words of the keys that depend on the
            number of classes or on the task.
        option_rules: name of DeepLab2's model message to its
            :class:`deeplab2_d2.checkpoint.option_rules.OptionRules`, or where the backbone decides
            which model a message is, "<message>/<beginning of the backbone's name>"; {} in a record
            that is made of another's by ``dataclasses.replace``.
    """

    add_config: Optional[Callable[[CfgNode], None]] = None
    check_config: Optional[Callable[[CfgNode], None]] = None
    build_mapper: Optional[Callable[[CfgNode, bool], DatasetMapper]] = None
    has_detectron2_input: bool = False
    has_own_input: bool = False
    outputs: Optional[Callable[[CfgNode], Tuple[str, ...]]] = None
    build_evaluators: Optional[Callable[[CfgNode, str, str], Sequence[Any]]] = None
    averaging: Optional[Averaging] = None
    build_oracle: Optional[Callable[[CfgNode, str], Predictor]] = None
    build_pictures: Optional[Callable[[CfgNode], Pictures]] = None
    slot_channels: Optional[Callable[[CfgNode], int]] = None
    rank_image: Optional[Callable[[Any, Sample], RankedImage]] = None
    build_graph: Optional[Callable[[Any], GraphInference]] = None
    checkpoint_modules: Tuple[Tuple[str, str], ...] = ()
    state_dict_rules: Tuple[Tuple[str, str, str], ...] = ()
    state_dict_layouts: Tuple[Tuple[str, Callable[[str, Any], Any]], ...] = ()
    state_dict_notes: Tuple[Tuple[str, str], ...] = ()
    slim_scopes: Tuple[Tuple[str, str], ...] = ()
    last_layers: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    option_rules: Mapping[str, object] = field(default_factory=dict)
