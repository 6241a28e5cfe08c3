"""Every reader of files that come from elsewhere, by the name of its folder of seeds."""

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from edits import edited_bytes, edited_json, inside_png, inside_table, inside_tar, inside_zip
from fuzzing import Target

from deeplab2_d2.checkpoint import import_options
from deeplab2_d2.checkpoint.archive import unpack
from deeplab2_d2.checkpoint.convert import parse_class_map
from deeplab2_d2.checkpoint.deeplab2_checkpoint import DeepLab2Checkpoint
from deeplab2_d2.checkpoint.download import _Part
from deeplab2_d2.checkpoint.import_config import read_options, to_yaml
from deeplab2_d2.checkpoint.run_folder import find_newest
from deeplab2_d2.checkpoint.weights_file import read_weights
from deeplab2_d2.data import convert
from deeplab2_d2.data.inspection import inspect_dataset
from deeplab2_d2.data.reading import read_image
from deeplab2_d2.data.registration import (
    load_panoptic_json,
    panoptic_metadata,
    register_own_datasets,
    register_panoptic_dataset,
)
from deeplab2_d2.engine import load_config
from deeplab2_d2.engine.video_input import open_video
from deeplab2_d2.evaluation import PanopticInstanceEvaluator
from deeplab2_d2.structures import mask_fault, read_depth_png, read_label_map, read_panoptic_png
from deeplab2_d2.visualization.curves import read_curve
from deeplab2_d2.visualization.point_cloud.camera import read_camera

CATEGORIES = [
    {"id": 1, "name": "apple", "isthing": 1},
    {"id": 2, "name": "table", "isthing": 0},
]


def _config(folder: Path) -> None:
    load_config(str(folder / "leaf.yaml"))


def _options(name: str) -> Any:
    def read(folder: Path) -> None:
        placeholders = {"INIT": "model"}
        path = str(folder / name)
        try:
            to_yaml(import_options(read_options(path, placeholders)), name)
        except ValueError as error:
            # The command says which file it was given.
            raise ValueError(f"{path}: {error}") from error

    return read


def _bundle(folder: Path) -> None:
    checkpoint = DeepLab2Checkpoint(str(folder / "ckpt-1"))
    checkpoint.shapes()
    checkpoint.verify()


def _archive(folder: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as inside:
        unpack(str(folder / "a.tar"), inside, max_bytes=1 << 24)
        outside = {path.name for path in folder.iterdir()} - {"a.tar", Path(inside).name}
        assert not outside, outside


def _weights(name: str) -> Any:
    return lambda folder: read_weights(str(folder / name))


def _run_folder(folder: Path) -> None:
    find_newest(str(folder))


def _register(folder: Path) -> str:
    name = f"fuzz_{folder.name}"
    for registered in (name, f"{name}_instances"):
        if registered in DatasetCatalog.list():
            DatasetCatalog.remove(registered)
            MetadataCatalog.remove(registered)
    register_panoptic_dataset(
        name,
        panoptic_metadata(CATEGORIES),
        image_root=str(folder),
        panoptic_root=str(folder),
        panoptic_json=str(folder / "panoptic.json"),
        instances_json=str(folder / "instances.json"),
    )
    return name


def _dataset(folder: Path) -> None:
    name = _register(folder)
    inspect_dataset(name)
    inspect_dataset(f"{name}_instances")
    metadata = MetadataCatalog.get(name).as_dict()
    load_panoptic_json(str(folder / "panoptic.json"), str(folder), str(folder), metadata)
    DatasetCatalog.get(f"{name}_instances")


def _instances(folder: Path) -> None:
    PanopticInstanceEvaluator(_register(folder))


def _convert(source: str) -> Any:
    def read(folder: Path) -> None:
        arguments = {"name": "fruit", "split": "train", "images": folder, "output": folder / "out"}
        arguments.update({"categories": folder / "categories.json", source: folder / source})
        options = [str(part) for key, value in arguments.items() for part in (f"--{key}", value)]
        # The command itself would show a traceback, and go on to its exit status.
        convert._convert(convert._parse(options))

    return read


def _marker(folder: Path) -> None:
    for name in register_own_datasets(str(folder.parent)):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def _images(folder: Path) -> None:
    for read, name in (
        (read_panoptic_png, "panoptic.png"),
        (read_label_map, "map.png"),
        (read_depth_png, "depth.png"),
        (lambda path: read_image(path, "RGB"), "photo.jpg"),
    ):
        read(str(folder / name))


def _state(folder: Path) -> None:
    validator = _Part(str(folder / "file")).validator
    assert validator is None or validator.isprintable()


def _masks(folder: Path) -> None:
    from pycocotools import mask as mask_util

    try:
        masks = json.loads((folder / "masks.json").read_bytes())
    except RecursionError as error:  # Their readers' files are other targets.
        raise ValueError from error
    for mask in masks if isinstance(masks, list) else [masks]:
        if mask_fault(mask, (4, 6), allows_short_polygons=False) is not None:
            continue
        if isinstance(mask, dict) and isinstance(mask["counts"], list):
            mask = mask_util.frPyObjects(mask, 4, 6)
        elif not isinstance(mask, dict):
            mask = mask_util.merge(mask_util.frPyObjects(mask, 4, 6))
        decoded = mask_util.decode(mask)
        assert decoded.shape == (4, 6) and set(np.unique(decoded)) <= {0, 1}


def _stream(folder: Path) -> None:
    with open(folder / "stream", "rb") as stream:
        for frame in open_video("-", stream=stream).frames:
            assert frame.ndim == 3


def _small_files(folder: Path) -> None:
    read_camera(str(folder / "camera.json"))
    read_curve(str(folder / "metrics.json"), "total_loss")
    parse_class_map(str(folder / "class_map.json"))


def _yaml(data: bytes) -> Any:
    tokens = (b"!!python/name:os.system ", b"&a ", b"*a", b"<<: *a\n", b"[" * 500, b"\t", b"? ")
    return edited_bytes(data, (*tokens, b"- ", b": ", b"{", b"!!int ", b"1" * 5000, b"\xff", b"0x"))


def _xml(data: bytes) -> Any:
    bomb = b"<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'>%s]>" % b"".join(
        b"<!ENTITY %c '%s'>" % (letter + 1, b"&%c;" % letter * 10) for letter in range(97, 110)
    )
    tokens = (bomb, b"&n;", b"<!ENTITY x SYSTEM 'file:///etc/passwd'>", b"&x;", b"nan", b"1e9")
    return edited_bytes(data, (*tokens, b"<mask ", b"<a>" * 2000, b">", b'"', b"\xff", b"-"))


def _textproto(data: bytes) -> Any:
    tokens = (b"{", b"}", b"backbone {" * 200, b"${INIT}", b"${X}", b"0x" + b"f" * 400, b"1e999")
    return edited_bytes(data, (*tokens, b'"', b"#", b"-", b"inf", b"\\", b"[", b"\xff", b"\0"))


def _pickle(data: bytes) -> Any:
    tokens = (
        b"r\xff\xff\xff\x7f",
        b"cos\nsystem\n",
        b"\x8d" + b"\xff" * 7 + b"\0",
        b"(",
        b"R",
        b"b",
    )
    return edited_bytes(data, (*tokens, b"0", b"2", b"N", b"\x81", b"\x8a\xff", b"."))


TARGETS: Dict[str, Target] = {
    "config": Target(_config, {"leaf.yaml": _yaml, "base.yaml": _yaml}),
    "textproto": Target(_options("options.textproto"), {"options.textproto": _textproto}),
    "options": Target(_options("options.json"), {"options.json": edited_json}),
    "bundle": Target(
        _bundle,
        {
            "ckpt-1.index": inside_table,
            "ckpt-1.data-00000-of-00001": edited_bytes,
            "checkpoint": edited_bytes,
        },
    ),
    "archive": Target(_archive, {"a.tar": inside_tar}),
    "pth": Target(_weights("w.pth"), {"w.pth": inside_zip}),
    "pkl": Target(_weights("w.pkl"), {"w.pkl": _pickle}),
    "safetensors": Target(_weights("w.safetensors"), {"w.safetensors": edited_bytes}),
    "run_folder": Target(
        _run_folder, {"model_final.pth": inside_zip, "last_checkpoint": edited_bytes}
    ),
    "dataset": Target(
        _dataset,
        {
            "panoptic.json": edited_json,
            "instances.json": edited_json,
            "panoptic.png": inside_png,
        },
    ),
    "instances": Target(_instances, {"instances.json": edited_json}),
    # Its errors name images, or options.
    "convert": Target(
        _convert("instances"),
        {"instances": edited_json, "categories.json": edited_json},
        names_file=False,
    ),
    "convert_cvat": Target(_convert("cvat"), {"cvat": _xml}, names_file=False),
    "convert_labelme": Target(
        _convert("labelme"), {"labelme/photo.json": edited_json}, names_file=False
    ),
    "convert_yolo": Target(_convert("yolo"), {"yolo/photo.txt": edited_bytes}, names_file=False),
    "marker": Target(_marker, {"panoptic_dataset.json": edited_json}),
    "images": Target(
        _images,
        {
            **{f"{name}.png": inside_png for name in ("panoptic", "map", "depth")},
            "photo.jpg": edited_bytes,
        },
    ),
    "download_state": Target(_state, {"file.part.json": edited_json}),
    "masks": Target(_masks, {"masks.json": edited_json}, names_file=False),
    "stream": Target(_stream, {"stream": edited_bytes}, names_file=False),
    "small_files": Target(
        _small_files,
        {name: edited_json for name in ("camera.json", "class_map.json")}
        | {"metrics.json": edited_bytes},
    ),
}
