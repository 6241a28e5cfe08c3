"""What can be wrong with the instances of a dataset that has them beside its panoptic maps."""

from collections import Counter, defaultdict
from typing import Any, Dict, Mapping, Sequence, Tuple

from ..structures import DatasetClasses
from .findings import DatasetReport
from .instances import find_disagreements, read_instances_json

Entry = Tuple[Mapping[str, Any], Mapping[str, Any]]


def inspect_instances(
    instances_json: str,
    entries: Sequence[Entry],
    classes: DatasetClasses,
    panoptic_json: str,
    report: DatasetReport,
) -> None:
    """
    Report where the instances do not fit the panoptic annotation.

    Args:
        instances_json: annotation in COCO instance format.
        entries: of all images with a panoptic annotation, the image's and the annotation's.
        classes: of the dataset.
        panoptic_json: where the entries are from.
        report: to add to.
    """
    try:
        content = read_instances_json(instances_json)
    except (OSError, ValueError) as error:
        report.add("missing_annotation", instances_json, str(error))
        return
    images = {image["id"]: image for image, _ in entries}
    for kind, detail in find_disagreements(content, images, classes, panoptic_json):
        report.add(kind, instances_json, detail)
    counts: Dict[Any, Counter] = defaultdict(Counter)
    for annotation in content["annotations"]:
        counts[annotation["image_id"]][classes.category_ids.get(annotation["category_id"])] += 1
    listed = {image["id"] for image in content["images"]}
    for image, annotation in entries:
        if image["id"] not in listed:
            continue
        segments = [classes.category_ids.get(s["category_id"]) for s in annotation["segments_info"]]
        for k in sorted({k for k in segments if k is not None and classes.is_thing(k)}):
            if not counts[image["id"]][k]:
                report.add(
                    "no_instance", instances_json, f"{image['file_name']}: {classes.names[k]}"
                )
