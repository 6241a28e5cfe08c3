"""From what was found in the images to pictures and the parts of the page."""

from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ..pictures import draw_heatmap
from .coloring import draw_attention, draw_mask
from .matrix import draw_joint_distribution
from .page import (
    Block,
    Facts,
    Figures,
    Folded,
    Paragraph,
    Picture,
    Section,
    Table,
    render_page,
)
from .picture_table import LabeledPicture, draw_picture_table, shorten
from .statistics import SlotSegment, SlotStatistics

# Writes a figure, or an (H, W, 3) uint8 picture, under a name beside the page.
Save = Callable[[str, Any], None]

# Of the sheet of average masks.
MOST_SLOTS, NUM_COLUMNS = 48, 6
_CLASSES_OF_A_SLOT = 2
_CAPTION_LENGTH = 24


class LayerAttention(NamedTuple):
    """
    What the chosen slots attend to in a dual-path layer.

    Attributes:
        title: of the layer.
        weights: (heads, K, H, W) float, on the pixels, at the size of the picture.
        pixel_share: (heads, K) float, the part of the attention that is on pixels; the rest is on
            other slots.
    """

    title: str
    weights: np.ndarray
    pixel_share: np.ndarray


@dataclass(frozen=True)
class ImageSlots:
    """
    What is drawn of one image; (H, W) is the size of its pictures of attention.

    Attributes:
        name: of the image.
        pictures: title to (h, w, 3) uint8: the image and maps over it.
        small_image: (H, W, 3) uint8.
        slot_map: (H, W) integer, the slot that has the pixel in the final map; -1 for none.
        chosen: K slots whose attention is drawn.
        layers: the attention, layer by layer.
    """

    name: str
    pictures: Mapping[str, np.ndarray]
    small_image: np.ndarray
    slot_map: np.ndarray
    chosen: Sequence[SlotSegment]
    layers: Sequence[LayerAttention]


class SlotReport:
    """
    Draws pictures one after the other and gathers the parts of the page.

    Args:
        save: writes a picture.
        class_names: by contiguous id.
        thing_ids: classes that have instances.
        feature_depth: D, channels of the pixel features.
        draws_heads: draw the attention of each head, too.
    """

    def __init__(
        self,
        save: Save,
        *,
        class_names: Sequence[str],
        thing_ids: Sequence[int],
        feature_depth: int,
        draws_heads: bool = False,
    ):
        self._save = save
        self._names = list(class_names)
        self._thing_ids = list(thing_ids)
        self._feature_depth = feature_depth
        self._draws_heads = draws_heads
        self._images: List[Block] = []

    def add_image(self, image: ImageSlots) -> None:
        """Draw one image's own pictures."""
        prefix = f"image{len(self._images) + 1}"
        overview = []
        for title, picture in image.pictures.items():
            name = f"{prefix}_{title.replace(' ', '_')}.png"
            self._save(name, picture)
            overview.append(Picture(name, f"{image.name}: {title}", title, is_sheet=False))
        parts: List[Block] = [Figures(overview)]
        if image.chosen:
            parts.append(Figures([self._draw_mean_attention(prefix, image)]))
        else:
            parts.append(Paragraph("No slot is left in the map of this image, so none is drawn."))
        if image.chosen and self._draws_heads:
            heads = [self._draw_heads(prefix, image, k) for k in range(len(image.layers))]
            parts.append(Folded("Each head of its own", [Figures(heads)]))
        self._images.append(Section(image.name, parts, level=3))

    def write_page(self, statistics: SlotStatistics, about: Sequence[Tuple[str, str]]) -> str:
        """
        Draw the statistics, and return the page.

        Args:
            statistics: of all images.
            about: names and values that tell what was drawn.
        """
        parts: List[Block] = [Facts(about), Paragraph(_HOW_TO_READ)]
        if statistics.firing_slots():
            parts += [self._joint_section(statistics), self._average_section(statistics)]
        else:
            parts.append(Section("Slots and classes", [Paragraph(_NOTHING_FIRED)]))
        explanations = [Paragraph(text) for text in (_IMAGES, self._feature_text(), _ATTENTION)]
        parts.append(Section("Masks and attention in images", [*explanations, *self._images]))
        return render_page("Mask slots", parts)

    def _joint_section(self, statistics: SlotStatistics) -> Block:
        slots = statistics.firing_slots()
        num_silent = len(statistics.firings) - len(slots)
        self._save(
            "joint_distribution.png",
            draw_joint_distribution(statistics.firings, slots, self._names, self._thing_ids),
        )
        first = slots[0]
        alt = (
            f"Matrix of {len(slots)} slots and {len(self._names)} classes. Most often fires slot "
            f"{first}: {self._classes(statistics, first, 3)}."
        )
        caption = (
            f"{len(slots)} slots, the most used above; the other {num_silent} of the network never "
            "fired in these images and have no row."
        )
        rows = [
            (f"slot {slot}", int(statistics.totals[slot]), self._classes(statistics, slot, 5))
            for slot in slots
        ]
        parts = [
            Paragraph(_JOINT),
            Figures([Picture("joint_distribution.png", alt, caption)]),
            Folded("The same as a list", [Table(("slot", "fired in images", "as"), rows)]),
        ]
        return Section("Slots and classes", parts)

    def _average_section(self, statistics: SlotStatistics) -> Block:
        slots = statistics.firing_slots()[:MOST_SLOTS]
        cells = []
        for slot in slots:
            mask = statistics.average_mask(slot)
            caption = (
                f"slot {slot}, {statistics.totals[slot]} images\nlargest {mask.max():.2f}\n"
                + shorten(self._classes(statistics, slot, _CLASSES_OF_A_SLOT), _CAPTION_LENGTH)
            )
            cells.append(LabeledPicture(draw_heatmap(mask, maximum=None), caption))
        rows = [cells[k : k + NUM_COLUMNS] for k in range(0, len(cells), NUM_COLUMNS)]
        self._save("average_masks.png", draw_picture_table(rows))
        alt = f"Average masks of the {len(slots)} most used slots, with their commonest classes."
        caption = (
            "Slot, in how many images it fired, its largest mean probability (white), and "
            "its commonest classes."
        )
        sheet = Figures([Picture("average_masks.png", alt, caption)])
        return Section("Average mask of each slot", [Paragraph(_AVERAGE), sheet])

    def _draw_mean_attention(self, prefix: str, image: ImageSlots) -> Picture:
        name = f"{prefix}_attention.png"
        rows = {
            layer.title: (layer.weights.mean(axis=0), layer.pixel_share.mean(axis=0))
            for layer in image.layers
        }
        self._save(name, self._attention_table(image, rows))
        slots = ", ".join(f"{c.slot} ({self._class_name(c.class_id)})" for c in image.chosen)
        alt = f"{image.name}: attention of the slots {slots} in each layer, mean of the heads."
        return Picture(name, alt)

    def _draw_heads(self, prefix: str, image: ImageSlots, index: int) -> Picture:
        name, layer = f"{prefix}_heads{index + 1}.png", image.layers[index]
        rows = {
            f"head {head + 1}": (weights, share)
            for head, (weights, share) in enumerate(zip(layer.weights, layer.pixel_share))
        }
        self._save(name, self._attention_table(image, rows))
        title = layer.title.replace("\n", ", ")
        return Picture(name, f"{image.name}: attention of each head in {title}.", title)

    def _attention_table(
        self, image: ImageSlots, rows: Mapping[str, Tuple[np.ndarray, np.ndarray]]
    ) -> Any:
        """A column for each chosen slot: its mask, then (K, H, W) weights with (K,) shares."""
        masks = [image.slot_map == segment.slot for segment in image.chosen]
        cells = [[LabeledPicture(draw_mask(image.small_image, mask)) for mask in masks]]
        for weights, shares in rows.values():
            cells.append(
                [
                    LabeledPicture(
                        draw_attention(image.small_image, *maps), f"{share:.0%} on pixels"
                    )
                    for *maps, share in zip(weights, masks, shares)
                ]
            )
        titles = [
            f"slot {c.slot}\n{shorten(self._class_name(c.class_id), _CAPTION_LENGTH)}"
            for c in image.chosen
        ]
        return draw_picture_table(cells, column_titles=titles, row_titles=["mask", *rows])

    def _class_name(self, class_id: int) -> str:
        return self._names[class_id] if class_id >= 0 else "not in the map"

    def _classes(self, statistics: SlotStatistics, slot: int, count: int) -> str:
        top = statistics.top_classes(slot, count)
        return ", ".join(f"{self._names[c]} {n}" for c, n in top)

    def _feature_text(self) -> str:
        if self._feature_depth == 3:
            return _FEATURES + " Its D = 3 channels are red, green and blue: (x + 1) / 2."
        return (
            f"{_FEATURES} It has D = {self._feature_depth} channels, of which the picture shows "
            "the first three principal components within the image as red, green and blue, each "
            "stretched to its range: the colors of two images do not compare. (A network with "
            "D = 3 is shown as it is.)"
        )


_HOW_TO_READ = "Every picture is a link to its file, where it has its full size."
_NOTHING_FIRED = (
    "No slot was confident enough to have a pixel in any image, so there is nothing to count. An "
    "untrained network looks like that. Lower thresholds of confidence in post-processing show "
    "what its slots would predict."
)
_JOINT = (
    "How often each slot predicts each class: the number of images in which the slot has pixels "
    "of that class in the final panoptic map, so after all thresholds. Things stand left of the "
    "line and stuff right of it. A slot that is used for one class, or for things only, has "
    "specialised; it is not told to (MaX-DeepLab, arXiv:2012.00759, Fig. A.3)."
)
_AVERAGE = (
    "Where each slot predicts: the mean, over the images in which it fired, of the probability "
    "that a pixel is the slot's (softmax over the slots), images brought to one shape. From black "
    "(0) over red and yellow to white, the largest value of that slot (Fig. A.4)."
)
_IMAGES = (
    "The final panoptic map, the slots that have its pixels (one color a slot, the same in every "
    "image), and the pixel features."
)
_FEATURES = (
    "The pixel features g are what the mask head multiplies with each slot's mask feature: equal "
    "colors become one mask (Fig. 5)."
)
_ATTENTION = (
    "Attention maps show where a slot reads from the pixels (memory to pixel, M2P), in every "
    "dual-path transformer layer from the first to the last, for the slots of some masks "
    "(Fig. A.6). Each map is scaled to its own largest weight, white; the cyan line is the mask "
    "that the slot predicts in the end. How much of the attention is on pixels at all stands "
    "below; the rest is on other slots (M2M, in the same softmax). In layers of k-means "
    "(arXiv:2207.04044, Eq. 7) a slot reads the sum of the pixels that are assigned to it: their "
    "weight is 1, that of others 0."
)
