import json
import multiprocessing
import os
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_writer import write_checkpoint
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from file_server import serve
from test_checkpointer import VARIABLES, TinyModel

from deeplab2_d2.checkpoint import DeepLab2Checkpointer, with_published_classes, zoo_cache
from deeplab2_d2.checkpoint.download import DownloadError
from deeplab2_d2.checkpoint.zoo import get_config, get_config_file, list_rows, main
from deeplab2_d2.checkpoint.zoo_cache import fetch
from deeplab2_d2.checkpoint.zoo_table import find_row, short_names, zoo_rows

SHARED = Path(__file__).parents[2] / ".." / "shared"
NAME = "resnet50_os32_panoptic_deeplab_cityscapes_trainfine"
WEIGHTS = {key: value for key, value in VARIABLES.items() if key[0] in "es"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "deeplab2"


def pack(folder, variables, name="a.tar.gz"):
    """An archive as the release has them: a folder with a checkpoint."""
    write_checkpoint(folder / "model", variables, "ckpt-60000")
    with tarfile.open(folder / name, "w:gz") as archive:
        archive.add(folder / "model", arcname="model")
    return folder / name


@pytest.fixture
def archive(tmp_path):
    return pack(tmp_path / "archive", WEIGHTS)


@pytest.fixture
def server(archive):
    with serve(archive.read_bytes()) as files:
        yield files


def weights_equal(path):
    model = TinyModel()
    DeepLab2Checkpointer(model).load(path)
    kernel = WEIGHTS["encoder/_stem/_conv/kernel"].transpose(3, 2, 0, 1)
    return np.array_equal(model.backbone["stem"]["conv"].weight.detach().numpy(), kernel)


def test_the_table_has_every_published_row_once():
    names = [row.name for row in zoo_rows()]
    # Of DeepLab2, of research/deeplab before it, and of PyTorch repositories.
    assert len(names) == len(set(names)) == 91 + 12 + 7
    row = find_row(NAME)
    assert row.scores["official"] == {"PQ": 59.8, "mIoU": 76.0}
    assert row.address.endswith(f"/{NAME}.tar.gz") and row.output_stride == 32


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data at {SHARED}")
def test_the_table_says_what_the_published_tables_say():
    published = {row["archives"][0]: row for row in json.loads((SHARED / "zoo.json").read_text())}
    rows = [row for row in zoo_rows() if row.document.startswith("g3doc/")]
    assert {row.address for row in rows} == set(published)
    for row in rows:
        source = published[row.address]
        assert row.deeplab2_config == source["config"]
        assert row.document.endswith("/" + source["document"])
        numbers = [value for scores in row.scores.values() for value in scores.values()]
        cells = " ".join(source["cells"]).replace("%", "").split()
        assert all(any(float(cell) == n for cell in cells if is_number(cell)) for n in numbers)
        num_metrics = sum("PQ" in c or "IoU" in c or "AP" in c for c in source["columns"])
        assert len(numbers) >= num_metrics or "-" in source["cells"], row.name


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_a_name_that_is_not_there_offers_near_ones():
    with pytest.raises(KeyError, match="resnet50_imagenet1k"):
        find_row("resnet50_imagenet")


def test_the_listing(capsys):
    assert main(["KITTI"]) == 0
    said = capsys.readouterr().out
    assert "resnet50_os32_motion_deeplab_kitti_train" in said and "_coco_" not in said
    assert list_rows().endswith("110 of 110 rows")


def test_every_configuration_of_the_table_exists():
    named = [row for row in zoo_rows() if row.config]
    assert named
    for row in named:
        assert os.path.isfile(get_config_file(row.name))
        trained = get_config(row.name, trained=True)
        assert trained.MODEL.WEIGHTS == f"deeplab2://{row.name}"


def test_short_names_say_what_the_row_and_its_configuration_are():
    rows = {row.name: row for row in zoo_rows()}
    assert len(set(short_names().values())) == len(short_names())
    # All that predict: neither backbones nor the checkpoints that others start from.
    starts = [row for row in rows.values() if row.task.startswith("initial")]
    assert len(short_names()) == len([row for row in rows.values() if row.config]) - len(starts)
    kinds = ("Panoptic", "Axial", "MaX", "kMaX", "Motion", "ViP")
    models = {f"{kind}-DeepLab": f"{kind.lower()}_deeplab" for kind in kinds}
    models.update({"DeepLab v2": "deeplab_v2", "DeepLab v3+": "deeplab_v3plus", "HRNet": "hrnet"})
    for short, name in short_names().items():
        row, words = rows[name], short.partition("/")
        assert words[0] == models[row.model]
        dataset = row.dataset.lower().replace("pascal voc 2012", "voc").replace("-", "_")
        dataset = dataset.replace(" trainval", "_trainval").replace(" train", "")
        rest = "_unlabeled" if name.endswith("unlabeled") else ""
        rest = "_trainval" if name.endswith("trainval") and "trainval" not in dataset else rest
        assert words[2].endswith(f"_{dataset}{rest}"), short
        leaf = os.path.basename(get_config_file(short))
        assert f"_os{re.search('_os([0-9]+)', words[2])[1]}_" in leaf, short
        assert find_row(short) is row


def test_a_short_name_is_a_name_everywhere(cache, archive):
    short = "panoptic_deeplab/resnet50_os32_cityscapes"
    assert get_config(short, trained=True).MODEL.WEIGHTS == f"deeplab2://{NAME}"
    cache.mkdir(parents=True)
    archive.rename(cache / f"{NAME}.tar.gz")
    assert weights_equal(f"deeplab2://{short}") and weights_equal(f"deeplab2://{NAME}")
    with pytest.raises(KeyError, match=r"\(panoptic_deeplab/resnet50_os32_cityscapes, "):
        find_row("panoptic_deeplab/resnet50_os32_city")
    assert "panoptic_deeplab/resnet50_os32_coco" in list_rows("deeplab/resnet50_os32_coco")


def test_coco_is_trained_with_133_classes_and_published_with_void():
    name = "resnet50_os16_panoptic_deeplab_coco_train"
    assert get_config(name).MODEL.SEM_SEG_HEAD.NUM_CLASSES == 133
    trained = get_config(name, trained=True)
    assert trained.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 134
    assert trained.MODEL.DEEPLAB2.CLASS_MAP == "deeplab2_coco"


def test_published_weights_bring_their_classes_whatever_the_config_says():
    cfg = get_config("resnet50_os16_panoptic_deeplab_coco_train")
    cfg.freeze()
    changed = with_published_classes(cfg, "deeplab2://resnet50_os32_panoptic_deeplab_coco_train_2")
    assert changed.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 134 and changed.is_frozen()
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 133
    for weights in (f"deeplab2://{NAME}", "deeplab2://resnet50_imagenet1k", "model_final.pth", ""):
        assert with_published_classes(cfg, weights) is cfg


def test_an_archive_is_downloaded_converted_and_kept_once(cache, server):
    path = fetch(NAME, f"{server.address}/a.tar.gz")
    assert weights_equal(path)
    assert fetch(NAME, f"{server.address}/a.tar.gz") == path
    assert len(server.ranges) == 1
    assert sorted(p.name for p in cache.iterdir() if p.suffix != ".lock") == [Path(path).name]


def test_the_address_is_a_path_for_detectron2(cache, server, monkeypatch):
    make = zoo_cache._make
    monkeypatch.setattr(
        zoo_cache, "_make", lambda row, url, *args: make(row, f"{server.address}/x", *args)
    )
    assert weights_equal(PathManager.get_local_path(f"deeplab2://{NAME}"))
    assert weights_equal(f"deeplab2://{NAME}")
    model = TinyModel()
    DetectionCheckpointer(model).load(f"deeplab2://{NAME}")
    assert model.backbone["stem"]["batch_norm"].weight.tolist() == [2.0] * 4


@pytest.mark.parametrize("as_folder", [False, True])
def test_what_the_user_put_into_the_cache_is_used(cache, archive, as_folder):
    cache.mkdir(parents=True)
    placed = cache / (NAME if as_folder else f"{NAME}.tar.gz")
    (archive.parent / "model" if as_folder else archive).rename(placed)
    assert weights_equal(fetch(NAME, "http://nothing.invalid/a.tar.gz"))
    assert placed.exists()  # It is the user's.


@pytest.mark.parametrize("is_parent", [False, True])
def test_weights_in_a_folder_that_all_users_write_to_are_refused(cache, archive, is_parent):
    cache.mkdir(parents=True)
    archive.rename(cache / f"{NAME}.tar.gz")
    folder = cache.parent if is_parent else cache
    for mode in (0o777, 0o1777):
        folder.chmod(mode)
        with pytest.raises(PermissionError, match=f"{folder} can be written to by all users"):
            fetch(NAME)
    folder.chmod(0o775)  # A group's is its own affair.
    assert weights_equal(fetch(NAME))


def test_the_fallback_of_another_user_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "iopath_cache"
    folder.mkdir()
    monkeypatch.setattr(zoo_cache, "get_cache_dir", lambda: str(folder))
    if os.getuid() == 0:
        os.chown(folder, 12345, -1)  # Root's are everyone's to trust.
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    # A cache that was chosen may be a colleague's.
    assert zoo_cache.cache_folder() == str(folder / "deeplab2")
    monkeypatch.setattr(zoo_cache, "_FALLBACK", str(folder))
    with pytest.raises(PermissionError, match="iopath_cache belongs to another user: .*FVCORE_C"):
        zoo_cache.cache_folder()


def test_a_download_that_others_may_have_planted_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "iopath_cache" / "server.example"
    folder.mkdir(parents=True)
    torch.save({"model": TinyModel().state_dict()}, folder / "w.pth")
    monkeypatch.setattr(zoo_cache, "_FALLBACK", str(tmp_path / "iopath_cache"))
    checkpointer = DeepLab2Checkpointer(TinyModel())
    checkpointer.load(str(folder / "w.pth"))
    folder.parent.chmod(0o1777)
    with pytest.raises(PermissionError, match="iopath_cache can be written to by all users"):
        checkpointer.load(str(folder / "w.pth"))


def test_a_local_archive_or_folder_loads_as_weights(archive):
    assert weights_equal(str(archive))
    assert weights_equal(str(archive.parent / "model"))


def test_offline_names_the_address_and_the_place(cache, monkeypatch):
    url = "http://nothing.invalid/a.tar.gz"
    with pytest.raises(DownloadError) as error:
        fetch(NAME, url)
    assert f"get {url} elsewhere" in str(error.value)
    assert f"put it at {cache / NAME}.tar.gz" in str(error.value)


def test_a_damaged_archive_is_refused_and_not_kept(cache, server, archive):
    whole = server.data
    server.data = whole[: len(whole) // 2]
    with pytest.raises(ValueError, match="damaged archive"):
        fetch(NAME, f"{server.address}/a.tar.gz")
    server.data = whole
    assert weights_equal(fetch(NAME, f"{server.address}/a.tar.gz"))
    assert not [p for p in cache.iterdir() if p.suffix not in (".pth", ".lock")]


def test_a_hostile_archive_is_refused_and_leaves_nothing(cache, tmp_path):
    write_checkpoint(tmp_path / "m", WEIGHTS)
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "m", arcname="model")
        archive.add(tmp_path / "m" / "checkpoint", arcname="../../../escaped")
    with serve((tmp_path / "bad.tar.gz").read_bytes()) as server:
        with pytest.raises(ValueError, match="'../../../escaped' would stand outside"):
            fetch(NAME, f"{server.address}/a.tar.gz")
    assert not list(tmp_path.rglob("escaped"))
    assert [p.suffix for p in cache.iterdir()] == [".lock"]


def test_variables_without_a_place_are_refused(cache, tmp_path):
    path = pack(tmp_path / "x", {**WEIGHTS, "height_head_last_layer/bias": np.zeros(1, np.float32)})
    with serve(path.read_bytes()) as server:
        with pytest.raises(ValueError, match="1 of the 9 variables .*height_head_last_layer/bias"):
            fetch(NAME, f"{server.address}/a.tar.gz")


def test_a_model_without_a_configuration_is_refused_before_the_download(cache, monkeypatch):
    row = replace(find_row("kmax_resnet50_coco_train"), config=None)
    monkeypatch.setattr("deeplab2_d2.checkpoint.zoo_cache.find_row", lambda name: row)
    with pytest.raises(ValueError, match="is a kMaX-DeepLab, which has no configuration here"):
        fetch("kmax_resnet50_coco_train")


def test_every_archive_with_a_configuration_is_fetched(cache, server):
    names = [row.name for row in zoo_rows() if row.config is not None and row.file is None]
    assert "max_deeplab_s_os16_res641_100k_coco_train" in names and len(names) >= 30
    assert [n for n in names if not weights_equal(fetch(n, f"{server.address}/a.tar.gz"))] == []


STATE_DICT = "hrnet_w48_cityscapes_trainfine"


def test_a_state_dict_is_downloaded_as_it_is_and_loads_by_the_names_of_its_repository(
    cache, tmp_path
):
    torch.save({"conv1.weight": torch.full((4, 3, 3, 3), 2.0)}, tmp_path / "x.pth")
    row = find_row(STATE_DICT)
    with serve((tmp_path / "x.pth").read_bytes()) as server:
        path = fetch(STATE_DICT, f"{server.address}/{row.file}")
        assert fetch(STATE_DICT, f"{server.address}/{row.file}") == path
        assert len(server.ranges) == 1
    assert PathManager.get_local_path(f"deeplab2://{STATE_DICT}") == path
    assert torch.load(path)["conv1.weight"].mean() == 2.0


def test_a_state_dict_behind_a_page_says_where_it_is_to_be_put(cache, tmp_path):
    name = "hrnet_w48_panoptic_deeplab_cityscapes_bowenc0221"
    row = find_row(name)
    path = cache / row.file
    with pytest.raises(
        DownloadError, match="with a browser from https://drive.*put it at"
    ) as error:
        fetch(name)
    assert str(path) in str(error.value)
    path.write_bytes(b"x")
    assert fetch(name) == str(path)


def fetch_in_process(url, start, results):
    start.wait()
    results.put(fetch(NAME, url))


def test_two_processes_download_once(cache, server):
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    url = f"{server.address}/a.tar.gz"
    processes = [
        context.Process(target=fetch_in_process, args=(url, start, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    start.set()
    paths = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(paths) == 1 and weights_equal(paths.pop())
    assert len(server.ranges) == 1


def test_a_full_disk_while_converting_leaves_no_half_file(cache, server, monkeypatch):
    import torch

    def full_disk(data, file):
        file.write(b"half")
        raise OSError(28, "No space left on device", file.name)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        with pytest.raises(OSError, match="No space left"):
            fetch(NAME, f"{server.address}/a.tar.gz")
    assert not list(cache.glob("*.pth"))
    assert weights_equal(fetch(NAME, f"{server.address}/a.tar.gz"))
    assert len(server.ranges) == 1  # The archive was whole, and stayed until it was converted.
    assert not list(cache.glob("*.tar.gz"))


def test_the_command_answers_wrong_names(cache, capsys):
    assert main(["nothing", "--fetch"]) == 2
    assert "the zoo has no 'nothing'" in capsys.readouterr().err


def test_no_row_is_listed_as_one_that_cannot_be_used():
    *lines, count = list_rows().splitlines()
    assert count == f"{len(zoo_rows())} of {len(zoo_rows())} rows"
    uses = [line.split("  ")[0].strip() for line in lines[2:]]
    assert set(uses) == {"a start", "backbone", *short_names()} and len(uses) == len(zoo_rows())
