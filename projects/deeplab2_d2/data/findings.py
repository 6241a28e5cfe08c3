"""What an inspection of a dataset can find, and its report."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List


@dataclass(frozen=True)
class Kind:
    """
    A kind of finding.

    Args:
        title: what is wrong.
        advice: what to do about it.
        is_error: False for what trains, but perhaps not as wanted.
    """

    title: str
    advice: str
    is_error: bool = True


KINDS = {
    "missing_annotation": Kind(
        "annotation JSON missing or unreadable", "make it, or mend its path in the registration"
    ),
    "broken_entry": Kind(
        "entry of the annotation JSON missing or of another type",
        "write it as COCO's panoptic format has it, ids of segments and categories as numbers",
    ),
    "no_image": Kind("no image with an annotation", "annotate images, and list them in the JSON"),
    "cannot_load": Kind(
        "dataset that its own loader refuses", "mend what it names, or the loader's paths"
    ),
    "missing_image": Kind(
        "image missing", "copy the image there, or remove its entry from the JSON"
    ),
    "broken_image": Kind("image unreadable", "copy or convert the image again"),
    "missing_png": Kind(
        "panoptic PNG missing", "make the PNG again, or remove its entry from the JSON"
    ),
    "broken_png": Kind(
        "panoptic PNG unreadable or not RGB", "write an 8-bit RGB PNG, ids as R + 256 G + 65536 B"
    ),
    "size_mismatch": Kind(
        "PNG and image of different size",
        "resize the PNG with nearest neighbor, or use the image it was drawn on",
    ),
    "unknown_image_id": Kind(
        "annotation without an image", "add the image to `images`, or remove the annotation"
    ),
    "repeated_image": Kind("image annotated twice", "keep one annotation an image"),
    "no_annotation": Kind(
        "image without annotation", "annotate it, or remove it from `images`", False
    ),
    "overlapping_segments": Kind(
        "two segments on the same pixels",
        "give each segment an id of its own, in the JSON and in the PNG",
    ),
    "invalid_segment_id": Kind("segment id out of range", "ids are 1 to 256^3 - 1; 0 is unlabeled"),
    "empty_segment": Kind("segment without a pixel in the PNG", "remove it from segments_info"),
    "unlisted_segment": Kind(
        "segment of the PNG not in segments_info", "add it there, or set its pixels to 0"
    ),
    "unknown_category": Kind(
        "category that the metadata lacks", "register the category, or change the segment's"
    ),
    "divisor_overflow": Kind(
        "more instances of a class than the label divisor holds",
        "merge small ones into a crowd, or raise label_divisor",
    ),
    "broken_sequence": Kind(
        "frames of videos that cannot be put in order",
        "give each image `sequence`, a string, and `frame`, an integer, none twice",
    ),
    "broken_track": Kind(
        "instance of a video without a track, or with that of another",
        "give it a track_id of 1 or more, the object's own in its class in all frames",
    ),
    "broken_depth": Kind(
        "depth PNG missing, unreadable or not of the image's size",
        "write a PNG of one channel, 16 bits, meters times 256, 0 where unknown",
    ),
    "other_things": Kind(
        "instances JSON with other classes than the things of the dataset",
        "give its categories the ids and names of the things, or register the things it has",
    ),
    "unpaired_image": Kind(
        "image in only one of instances and panoptic JSON",
        "list the same images in both, also those without an instance",
    ),
    "instance_size": Kind(
        "mask of an instance that cannot be read, or of another size than its image",
        "write masks (polygons or RLE) and sizes of the image that the panoptic PNG was drawn on",
    ),
    "no_instance": Kind(
        "class of the panoptic map without an instance in the image",
        "annotate its instances: where it is, a detector learns that there is nothing",
        False,
    ),
    "repeated_stuff": Kind(
        "stuff class in several segments of an image",
        "merge them: evaluation counts each as a segment",
        False,
    ),
    "stuff_crowd": Kind(
        "stuff marked as crowd",
        "set iscrowd to 0: it has no effect in training, but in evaluation",
        False,
    ),
    "wrong_area": Kind(
        "area in the JSON differs from the PNG",
        "recompute area (evaluation uses the JSON's)",
        False,
    ),
    "small_instance": Kind(
        "instance smaller than a cell of the network's output",
        "larger images, a smaller stride, or crowd",
        False,
    ),
    "missing_entry": Kind(
        "area, iscrowd or categories missing in the annotation JSON",
        "add them for other tools; here areas are counted, and the rest is as the metadata say",
        False,
    ),
    "dark_image": Kind(
        "image of 16 bits that uses few of them",
        "stretch its values: they are divided by 257, so that the network sees it almost black",
        False,
    ),
    "turned_image": Kind(
        "photo with an EXIF orientation",
        "it is read upright: what was drawn on it must be upright, too",
        False,
    ),
    "no_background": Kind(
        "pixels without a label, and no class that is stuff",
        "convert with --background NAME: else the model is taught nothing there, and gives those "
        "pixels to things",
        False,
    ),
    "absent_class": Kind("class that never occurs", "remove the class, or add examples", False),
}


@dataclass(frozen=True)
class Finding:
    """
    One thing to mend.

    Args:
        kind: key of ``KINDS``.
        source: the file (or the dataset).
        detail: what exactly.
    """

    kind: str
    source: str
    detail: str = ""


@dataclass
class DatasetReport:
    """
    What an inspection found.

    Args:
        name: of the dataset.
        findings: in the order of the annotation.
        num_images: inspected.
        segments, pixels: by class name, how many.
        images: by class name, how many have it.
        num_pixels, num_unlabeled: of all panoptic PNGs, and those of them without a label.
        class_names: all classes with whether they are things.
    """

    name: str
    class_names: Dict[str, bool]
    findings: List[Finding] = field(default_factory=list)
    num_images: int = 0
    segments: Counter = field(default_factory=Counter)
    pixels: Counter = field(default_factory=Counter)
    images: Counter = field(default_factory=Counter)
    num_pixels: int = 0
    num_unlabeled: int = 0

    def add(self, kind: str, source: str, detail: str = "") -> None:
        """Add a finding of a known kind."""
        assert kind in KINDS, kind
        self.findings.append(Finding(kind, source, detail))

    @property
    def unlabeled_percent(self) -> float:
        """Part of the pixels without a label."""
        return 100 * self.num_unlabeled / max(self.num_pixels, 1)

    @property
    def num_errors(self) -> int:
        """Findings that are errors."""
        return sum(KINDS[finding.kind].is_error for finding in self.findings)
