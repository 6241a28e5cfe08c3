"""What mask slots do in images: counted, and as pictures."""

import contextlib
import os
from typing import Any, ContextManager, Dict, List, Mapping, Optional, Sequence, Tuple, cast

import numpy as np
import torch

from ..data.reading import read_image
from ..layers import MemoryAttention, has_memory_attention, record_memory_attention
from ..models import Segmenter, SlotInference
from ..ops import SlotSegmentation
from ..postprocessing import Frames, crop_to_image, to_output, to_panoptic_seg
from ..structures import Prediction
from ..visualization import (
    draw_image,
    draw_panoptic_overlay,
    draw_semantic,
    make_class_colors,
    overlay,
)
from ..visualization.slots import (
    ImageSlots,
    LayerAttention,
    SlotSegment,
    SlotStatistics,
    feature_colors,
    slot_segments,
)
from ..visualization.slots.sizes import fit, pick, resize
from .setup import ConfigError

# Segments whose attention is drawn where none are chosen.
NUM_MASKS = 4
# Longer sides, in pixels: of average masks, of pictures of attention, of an image's pictures.
_MASK_SIDE, _SMALL_SIDE, _LARGE_SIDE = 65, 240, 1024
_LEAST_TOTAL = 1e-12


class SlotImages:
    """
    Runs a model on images and says what its slots did.

    Args:
        model: with mask slots, in evaluation mode.
        colors: (C, 3) RGB by contiguous class id.
        masks: slots whose attention is drawn; () for those of the largest segments.

    Raises:
        ConfigError: if the network has no layer in which slots read pixels.
    """

    def __init__(self, model: Segmenter, colors: np.ndarray, masks: Sequence[int] = ()):
        if not has_memory_attention(model):
            raise ConfigError(
                "the network must have dual-path transformer layers, or layers of k-means, whose "
                f"attention is drawn; got {type(model).__name__} with none"
            )
        self._model = model
        self._inference = cast(SlotInference, model.inference)
        self._colors = colors
        self._masks = masks
        self._mask_size: Optional[Tuple[int, int]] = None
        self.statistics: Optional[SlotStatistics] = None

    @torch.no_grad()
    def look(self, sample: Dict[str, Any], is_pictured: bool) -> Optional[ImageSlots]:
        """
        Add an image to the statistics.

        Args:
            sample: of a test loader.
            is_pictured: return what is drawn of it, too.

        Raises:
            ConfigError: if the network has not a slot that was chosen.
        """
        images = self._model.batch([sample])
        recording: ContextManager[Mapping[str, MemoryAttention]] = contextlib.nullcontext({})
        if is_pictured:
            recording = record_memory_attention(self._model)
        with recording as attention:
            prediction = self._model.predict(images.tensor)
        size = (int(sample["height"]), int(sample["width"]))
        result = self._inference.segment(prediction, images, 0, size)
        slot_map = result.slot_map[0].cpu().numpy()
        # Void is -1 before and after the division.
        class_map = result.panoptic_map[0].cpu().numpy() // self._inference.label_divisor
        slot_map = np.where(class_map >= 0, slot_map, -1)
        segments = slot_segments(slot_map, class_map)
        frames = Frames(images.input_size, images.image_sizes[0], size)
        self._count(prediction, frames, segments)
        if not is_pictured:
            return None
        chosen = self._choose(segments)
        image = draw_image(read_image(sample["file_name"], "RGB"))
        small = fit(size, _SMALL_SIDE)
        return ImageSlots(
            name=os.path.basename(sample["file_name"]),
            pictures=self._draw_maps(image, result, slot_map, prediction, frames),
            small_image=resize(image, small),
            slot_map=pick(slot_map, small),
            chosen=chosen,
            layers=_layer_attention(attention, frames._replace(output_size=small), chosen),
        )

    def _count(
        self,
        prediction: Prediction,
        frames: Frames,
        segments: Sequence[SlotSegment],
    ) -> None:
        if self.statistics is None or self._mask_size is None:
            num_slots, num_channels = prediction["class_logits"].shape[1:]
            for slot in self._masks:
                if not 0 <= slot < num_slots:
                    raise ConfigError(f"--masks must be slots below {num_slots}, got {slot}")
            self.statistics = SlotStatistics(int(num_slots), int(num_channels) - 1)
            self._mask_size = fit(frames.output_size, _MASK_SIDE)
        masks = prediction["mask_logits"][:1].float().softmax(dim=1)
        frames = frames._replace(output_size=self._mask_size)
        self.statistics.add(segments, to_output(masks, "probability", frames)[0])

    def _choose(self, segments: Sequence[SlotSegment]) -> List[SlotSegment]:
        if not self._masks:
            return list(segments[:NUM_MASKS])
        found = {segment.slot: segment for segment in segments}
        return [found.get(slot, SlotSegment(slot, -1, 0)) for slot in self._masks]

    def _draw_maps(
        self,
        image: np.ndarray,
        result: SlotSegmentation,
        slot_map: np.ndarray,
        prediction: Prediction,
        frames: Frames,
    ) -> Dict[str, np.ndarray]:
        size = fit((image.shape[0], image.shape[1]), _LARGE_SIDE)
        image = resize(image, size)
        divisor = self._inference.label_divisor
        panoptic_map, segments_info = to_panoptic_seg(result, 0, label_divisor=divisor)
        panoptic = (pick(panoptic_map.cpu().numpy(), size), segments_info)
        slots = draw_semantic(
            pick(slot_map, size), make_class_colors(prediction["mask_logits"].shape[1])
        )
        colors = feature_colors(crop_to_image(prediction["pixel_features"][0], frames))
        return {
            "image": image,
            "panoptic map": draw_panoptic_overlay(image, panoptic, self._colors),
            "slots": overlay(image, slots, opacity=0.75),
            "pixel features": resize(np.rint(255.0 * colors).astype(np.uint8), size),
        }


def _layer_attention(
    recorded: Mapping[str, MemoryAttention],
    frames: Frames,
    chosen: Sequence[SlotSegment],
) -> List[LayerAttention]:
    slots = [segment.slot for segment in chosen]
    layers = []
    for name, attention in recorded.items():
        # (heads, K, h, w), and their sums: with a sigmoid, weights do not sum to one.
        pixels = attention.to_pixels[0, :, slots].float()
        on_pixels = pixels.sum(dim=(2, 3))
        total = on_pixels
        if attention.to_memory is not None:
            total = on_pixels + attention.to_memory[0, :, slots].float().sum(dim=2)
        stride = (frames.input_size[0] - 1) // max(int(pixels.shape[-2]) - 1, 1)
        layers.append(
            LayerAttention(
                f"{_layer_name(name)}\nstride {stride}",
                to_output(pixels, "probability", frames).cpu().numpy(),
                # A center of k-means may have no pixel.
                (on_pixels / total.clamp(min=_LEAST_TOTAL)).cpu().numpy(),
            )
        )
    return layers


def _layer_name(name: str) -> str:
    """Its last words: "stage5 block1" of "backbone.stage5.block1_transformer"."""
    words = name.replace("_transformer", "").split(".")[1:]
    return " ".join(words[-3:])
