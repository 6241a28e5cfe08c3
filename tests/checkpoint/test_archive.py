import io
import tarfile

import pytest

from deeplab2_d2.checkpoint.archive import unpack
from deeplab2_d2.checkpoint.sorted_table import CheckpointFormatError


def member(name, content=b"hello", type=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, link
    info.size = len(content) if type == tarfile.REGTYPE else 0
    return info, content


def write(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_and_folders_are_unpacked(tmp_path, folder):
    archive = write(
        tmp_path / "a.tar.gz",
        member("model", type=tarfile.DIRTYPE),
        member("model/ckpt-1.index", b"index"),
        member("./other/deep/file", b""),
    )
    unpack(archive, str(folder))
    assert files_below(folder) == ["model/ckpt-1.index", "other/deep/file"]
    assert (folder / "model/ckpt-1.index").read_bytes() == b"index"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("model/../../outside"),
        member("/tmp/outside"),
        member("..\\outside"),
        member("C:outside"),
        member("model/..", type=tarfile.DIRTYPE),
        member("link", type=tarfile.SYMTYPE, link="/etc/passwd"),
        member("link", type=tarfile.LNKTYPE, link="model/ckpt-1.index"),
        member("device", type=tarfile.CHRTYPE),
        member("pipe", type=tarfile.FIFOTYPE),
    ],
    ids=lambda hostile: f"{hostile[0].name}-{hostile[0].type.decode()}",
)
def test_hostile_members_are_refused_and_nothing_leaves_the_folder(tmp_path, folder, hostile):
    archive = write(tmp_path / "a.tar.gz", member("model/ckpt-1.index"), hostile)
    with pytest.raises(ValueError, match="a.tar.gz: .*(only files|outside the folder)"):
        unpack(archive, str(folder))
    assert files_below(tmp_path) == ["a.tar.gz", "inside/model/ckpt-1.index"]


def test_a_link_cannot_be_written_through(tmp_path, folder):
    archive = write(
        tmp_path / "a.tar.gz",
        member("model", type=tarfile.SYMTYPE, link=str(tmp_path)),
        member("model/escaped"),
    )
    with pytest.raises(ValueError, match="only files are unpacked"):
        unpack(archive, str(folder))
    assert files_below(tmp_path) == ["a.tar.gz"]


def test_a_name_that_comes_twice_is_refused(tmp_path, folder):
    archive = write(tmp_path / "a.tar.gz", member("a", b"1"), member("a", b"2"))
    with pytest.raises(FileExistsError):
        unpack(archive, str(folder))


def test_more_than_the_limit_is_refused_before_it_is_written(tmp_path, folder):
    archive = write(tmp_path / "a.tar.gz", member("a", bytes(600)), member("bomb", bytes(600)))
    with pytest.raises(ValueError, match="at most 1000 bytes .* 'bomb' exceeds that"):
        unpack(archive, str(folder), max_bytes=1000)
    assert files_below(folder) == ["a"]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_an_archive_cut_short_is_refused(tmp_path, folder, kept):
    import numpy as np

    noise = np.random.default_rng(0).bytes(20_000)
    archive = tmp_path / "a.tar.gz"
    write(archive, member("a", noise), member("b", noise))
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * kept)])
    with pytest.raises(CheckpointFormatError, match="a.tar.gz, byte .*damaged archive"):
        unpack(str(archive), str(folder))


def test_a_flipped_bit_is_found(tmp_path, folder):
    archive = tmp_path / "a.tar.gz"
    write(archive, member("a", bytes(range(256)) * 100))
    data = bytearray(archive.read_bytes())
    data[-6] ^= 1  # in gzip's checksum
    archive.write_bytes(data)
    with pytest.raises(CheckpointFormatError, match="damaged archive"):
        unpack(str(archive), str(folder))
