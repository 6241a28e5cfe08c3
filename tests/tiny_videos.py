"""A small dataset of videos with crowds, void and depth, and predictions that are partly right."""

import json

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

DIVISOR = 1000
SIZE = (18, 24)
# Contiguous ids 0 to 3; the dataset's are 10 times as much and 7 more.
CLASSES = ("person", "car", "road", "sky")
THINGS = (0, 1)
LENGTHS = {"long": 6, "short": 4, "middle": 5}


def labels_of(record, ids):
    """(H, W) panoptic labels of a map of segment ids, -1 is unlabeled: one segment at a time."""
    labels = np.full(ids.shape, -1)
    for segment in record["segments_info"]:
        labels[ids == segment["id"]] = segment["category_id"] * DIVISOR + segment["track_id"]
    return labels


def _blocks(rng, values):
    coarse = rng.choice(values, (SIZE[0] // 3, SIZE[1] // 3))
    return np.kron(coarse, np.ones((3, 3), int))


def _sequence(rng, name, length, folder):
    """Dataset dicts, and outputs: the truth moved by a pixel, with errors of all kinds."""
    # Two persons, two cars and a crowd of each, road and sky; tracks keep their numbers.
    labels = np.array([1, 2, 0, 1001, 1002, 1000, 2000, 3000, -1])
    base = _blocks(rng, labels)
    records, outputs = [], []
    for place in range(length):
        frame = 2 * place + 3
        truth = np.roll(base, place, axis=1)
        if place % 2:
            truth = np.where(_blocks(rng, [0, 0, 0, 1]) == 1, _blocks(rng, labels), truth)
        ids = np.zeros(SIZE, int)
        segments = []
        for number, label in enumerate(np.unique(truth[truth >= 0]).tolist(), 1):
            segment = number * 70001 % 256**3
            ids[truth == label] = segment
            category, track = divmod(label, DIVISOR)
            segments.append(
                {
                    "id": segment,
                    "category_id": category,
                    "iscrowd": int(category in THINGS and track == 0),
                    "area": int((truth == label).sum()),
                    "track_id": track,
                }
            )
        stem = f"{name}_{frame:06d}"
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
        Image.fromarray(colors).save(folder / f"{stem}.png")
        depth = rng.integers(256, 256 * 40, SIZE)
        depth[rng.random(SIZE) < 0.3] = 0
        Image.fromarray(depth.astype(np.uint16)).save(folder / f"{stem}_depth.png")
        records.append(
            {
                "file_name": str(folder / name / f"{frame:06d}.jpg"),
                "image_id": len(records) + 100 * len(name),
                "height": SIZE[0],
                "width": SIZE[1],
                "sequence": name,
                "frame": frame,
                "pan_seg_file_name": str(folder / f"{stem}.png"),
                "segments_info": segments,
                "depth_file_name": str(folder / f"{stem}_depth.png"),
            }
        )
        outputs.append(_output(rng, truth, depth / 256, place))
    return records, outputs


def _output(rng, truth, depth, place):
    # Other numbers than the truth's; the first person is lost and found as another.
    track = np.where(np.isin(truth // DIVISOR, THINGS) & (truth >= 0), truth + 4, truth)
    track[(truth == 1) & (place >= 2)] = 9
    noise = _blocks(rng, [0] * 6 + [1])
    track = np.where(noise == 1, rng.choice([5, 1006, 2000, 3000, -1]), track)
    track[:, :1] = 2000
    guess = np.where(depth > 0, depth, 9.0) * rng.choice([1, 1, 1, 0.95, 1.05, 0.8, 1.4, 1.7], SIZE)
    # Whole 256ths of a meter, as files of depth have.
    guess = np.maximum(np.round(guess * 256), 1) / 256
    return {
        "track": torch.from_numpy(track.astype(np.int32)),
        "depth": torch.from_numpy(guess.astype(np.float32)),
    }


def make_video_dataset(folder):
    """Dataset dicts, outputs in their order, and metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    records, outputs = [], []
    for name, length in LENGTHS.items():
        parts = _sequence(rng, name, length, folder)
        records += parts[0]
        outputs += parts[1]
    category_ids = {k: 10 * k + 7 for k in range(len(CLASSES))}
    annotations = [
        {
            "image_id": record["image_id"],
            "file_name": record["pan_seg_file_name"].rpartition("/")[2],
            "segments_info": [
                {**s, "category_id": category_ids[s["category_id"]]}
                for s in record["segments_info"]
            ],
        }
        for record in records
    ]
    categories = [
        {"id": category_ids[k], "name": name, "isthing": int(k in THINGS)}
        for k, name in enumerate(CLASSES)
    ]
    images = [{"id": record["image_id"]} for record in records]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps(content))
    metadata = {
        "thing_classes": list(CLASSES),
        "stuff_classes": list(CLASSES),
        "thing_dataset_id_to_contiguous_id": {category_ids[k]: k for k in THINGS},
        "stuff_dataset_id_to_contiguous_id": {
            category_ids[k]: k for k in range(len(CLASSES)) if k not in THINGS
        },
        "ignore_label": 255,
        "label_divisor": DIVISOR,
        "panoptic_json": str(folder / "panoptic.json"),
        "panoptic_root": str(folder),
        "evaluator_type": "coco_panoptic_seg",
    }
    return records, outputs, metadata


def register(name, records, metadata):
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(**metadata)


def remove(name):
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
