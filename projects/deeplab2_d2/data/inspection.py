"""
Inspection of a registered panoptic dataset: what would fail, or quietly train on nonsense.

It reads the annotation's JSON itself, so that it can report what keeps a dataset from loading.
"""

import os
from collections import Counter
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import (
    DatasetClasses,
    PanopticJson,
    describe_unknown_image,
    find_near_file,
    has_16_bits,
    is_photo_turned,
    read_json_object,
    read_panoptic_png,
    read_photo,
    sift_panoptic_json,
)
from .catalog import check_registered
from .findings import DatasetReport
from .instance_inspection import inspect_instances
from .video_inspection import inspect_depth, inspect_sequences, inspect_tracks

# An image of 16 bits whose values are all below uses an eighth of them.
_DARK = 32.0


def inspect_dataset(
    name: str, *, output_stride: int = 4, max_images: Optional[int] = None
) -> DatasetReport:
    """
    Inspect a registered panoptic dataset, every file of it.

    Args:
        name: of the dataset.
        output_stride: of the network's predictions; an instance of fewer pixels than a cell of
            theirs is reported.
        max_images: look at so many, spread evenly; None for all.

    Returns:
        the report.

    Raises:
        KeyError: if no dataset of that name is registered.
        ValueError: if it has no panoptic metadata, or ``output_stride`` is not positive.
    """
    if output_stride < 1:
        raise ValueError(f"output_stride must be at least 1, got {output_stride}")
    check_registered(name)
    metadata = MetadataCatalog.get(name)
    if not metadata.get("panoptic_json") or not metadata.get("stuff_classes"):
        raise ValueError(f"dataset {name} must have panoptic_json and the classes in its metadata")
    classes = DatasetClasses.from_metadata(metadata)
    kinds = {name: classes.is_thing(k) for k, name in enumerate(classes.names)}
    report = DatasetReport(name, kinds)
    content = _read_annotation(metadata.panoptic_json, report)
    files, refusal = _load_files(name)
    entries = list(_pair_entries(content, metadata.panoptic_json, report))
    has_videos = inspect_sequences([image for image, _ in entries], metadata.panoptic_json, report)
    if metadata.get("has_instances"):
        inspect_instances(metadata.json_file, entries, classes, metadata.panoptic_json, report)
    if max_images is not None and max_images < len(entries):
        places = np.linspace(0, len(entries) - 1, max_images).round().astype(int)
        entries = [entries[k] for k in places]
    for image, annotation in entries:
        file = files.get(image["id"], os.path.join(metadata.image_root, image["file_name"]))
        _inspect_image(image, annotation, file, metadata, classes, output_stride, report)
        if has_videos:
            png = os.path.join(metadata.panoptic_root, annotation["file_name"])
            inspect_tracks(annotation["segments_info"], classes, png, report)
    if max_images is None:
        for class_name in classes.names:
            if report.num_images and not report.segments[class_name]:
                report.add("absent_class", name, class_name)
    _inspect_whole(classes, metadata.panoptic_json, refusal, report)
    return report


def _inspect_whole(classes: DatasetClasses, path: str, refusal: str, report: DatasetReport) -> None:
    """What shows when all images have been looked at."""
    if not report.num_images and not report.num_errors:
        report.add("no_image", path)
    if not classes.stuff_ids and report.num_unlabeled:
        report.add("no_background", report.name, f"{report.unlabeled_percent:.1f} % of the pixels")
    if refusal and not report.num_errors:
        report.add("cannot_load", path, refusal)


def _read_annotation(path: str, report: DatasetReport) -> PanopticJson:
    try:
        content = sift_panoptic_json(read_json_object(path))
    except (OSError, ValueError) as error:
        report.add("missing_annotation", path, str(error))
        return sift_panoptic_json({"images": [], "annotations": [], "categories": []})
    for fault in content.faults:
        report.add(fault.kind, path, fault.detail)
    return content


def _load_files(name: str) -> Tuple[Dict[Any, str], str]:
    """The images' files by their ids, as training finds them, and why it would not find any."""
    try:
        return {d["image_id"]: d["file_name"] for d in DatasetCatalog.get(name)}, ""
    except (AssertionError, LookupError, OSError, TypeError, ValueError) as error:
        return {}, f"{type(error).__name__}: {error}"


def _pair_entries(
    content: PanopticJson, path: str, report: DatasetReport
) -> Iterator[Tuple[Dict[str, Any], Dict[str, Any]]]:
    images = content.images
    seen = set()
    for annotation in content.annotations:
        image_id, file_name = annotation["image_id"], annotation["file_name"]
        if image_id in seen:
            report.add("repeated_image", path, f"image_id {image_id!r} again at {file_name}")
        elif image_id not in images:
            # Of images that are broken, or of a list that is not there, there was a finding.
            if images and image_id not in content.broken_ids:
                unknown = describe_unknown_image(image_id, images)
                report.add("unknown_image_id", path, f"{file_name} has {unknown}")
        else:
            yield images[image_id], annotation
        seen.add(image_id)
    for image_id in images:
        if image_id not in seen:
            report.add("no_annotation", path, f"{images[image_id]['file_name']}")


def _inspect_image(
    image: Mapping[str, Any],
    annotation: Mapping[str, Any],
    image_file: str,
    metadata: Any,
    classes: DatasetClasses,
    output_stride: int,
    report: DatasetReport,
) -> None:
    report.num_images += 1
    png = os.path.join(metadata.panoptic_root, annotation["file_name"])
    size = _inspect_photo(image_file, metadata.image_root, report)
    inspect_depth(image, metadata.image_root, size, report)
    segments = annotation["segments_info"]
    _inspect_segments(segments, classes, png, report)
    try:
        ids = read_panoptic_png(png)
    except FileNotFoundError:
        near = find_near_file(png, metadata.panoptic_root)
        report.add("missing_png", png, f"there is {near}" if near else "")
        return
    except ValueError as error:
        report.add("broken_png", png, str(error))
        return
    if size is not None and size != ids.shape:
        detail = f"{ids.shape[0]} x {ids.shape[1]}, but {image_file} has {size[0]} x {size[1]}"
        if ids.shape == size[::-1] and is_photo_turned(image_file):
            detail += ", upright as its EXIF data say"
        report.add("size_mismatch", png, detail)
    _inspect_pixels(ids, segments, classes, png, output_stride, report)


def _inspect_photo(file: str, root: str, report: DatasetReport) -> Optional[Tuple[int, int]]:
    """The size of an image as training reads it; None if it cannot be read."""
    try:
        # Reads the pixels as well, so that a file that was cut short is found.
        image = read_photo(file)
    except FileNotFoundError:
        near = find_near_file(file, root)
        report.add("missing_image", file, f"there is {near}" if near else "")
        return None
    except ValueError as error:
        report.add("broken_image", file, str(error))
        return None
    if image.max() < _DARK and has_16_bits(file):
        report.add("dark_image", file, f"its greatest value is {257 * image.max():.0f} of 65535")
    if is_photo_turned(file):
        report.add("turned_image", file)
    return image.shape[0], image.shape[1]


def _inspect_segments(
    segments: Sequence[Mapping[str, Any]], classes: DatasetClasses, png: str, report: DatasetReport
) -> None:
    """What the list of segments shows by itself."""
    instances: Counter = Counter()
    stuff: Counter = Counter()
    for segment in segments:
        contiguous = classes.category_ids.get(segment["category_id"])
        is_crowd = bool(segment.get("iscrowd", 0))
        if not 0 < segment["id"] < 256**3:
            report.add("invalid_segment_id", png, f"segment {segment['id']}")
        if contiguous is None:
            detail = f"category {segment['category_id']} of segment {segment['id']}"
            report.add("unknown_category", png, detail)
        elif contiguous in classes.thing_ids:
            instances[contiguous] += not is_crowd
        else:
            stuff[contiguous] += 1
            if is_crowd:
                report.add("stuff_crowd", png, f"segment {segment['id']}")
    for segment_id, count in _more_than(1, Counter(segment["id"] for segment in segments)):
        report.add("overlapping_segments", png, f"segment {segment_id} is listed {count} times")
    for contiguous, count in _more_than(1, stuff):
        report.add("repeated_stuff", png, f"{classes.names[contiguous]} in {count} segments")
    for contiguous, count in _more_than(classes.label_divisor - 1, instances):
        detail = f"{count} of {classes.names[contiguous]}, divisor {classes.label_divisor}"
        report.add("divisor_overflow", png, detail)


def _more_than(limit: int, counts: Counter) -> List[Tuple[Any, int]]:
    return [(key, count) for key, count in counts.items() if count > limit]


def _inspect_pixels(
    ids: np.ndarray,
    segments: Sequence[Mapping[str, Any]],
    classes: DatasetClasses,
    png: str,
    output_stride: int,
    report: DatasetReport,
) -> None:
    """What the PNG shows beside the list of segments."""
    values, counts = np.unique(ids, return_counts=True)
    areas = dict(zip(values.tolist(), counts.tolist()))
    report.num_pixels += ids.size
    report.num_unlabeled += areas.pop(0, 0)
    present = set()
    # A segment that is listed twice was reported already.
    for segment in {segment["id"]: segment for segment in segments}.values():
        area = areas.pop(segment["id"], None)
        if area is None:
            report.add("empty_segment", png, f"segment {segment['id']}")
            continue
        if segment.get("area", area) != area:
            detail = f"segment {segment['id']}: {segment['area']}, in the PNG {area}"
            report.add("wrong_area", png, detail)
        contiguous = classes.category_ids.get(segment["category_id"])
        if contiguous is None:
            continue
        name = classes.names[contiguous]
        present.add(name)
        report.segments[name] += 1
        report.pixels[name] += area
        is_instance = contiguous in classes.thing_ids and not segment.get("iscrowd", 0)
        if is_instance and area < output_stride**2:
            report.add("small_instance", png, f"segment {segment['id']} ({name}): {area} pixels")
    for segment_id, area in areas.items():
        report.add("unlisted_segment", png, f"segment {segment_id}: {area} pixels")
    report.images.update(present)
