"""
Small files that would take all memory, one function each: ``make_NAME(folder)`` gives the path.

Run as a program, ``bombs.py FOLDER``, it reads every one, and prints for each how many MiB the
process has grown by at most, and the error.
"""

import gzip
import io
import pickle
import resource
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

MIB = 1 << 20


def make_shards(folder):
    from bundle_writer import field, table

    header = field(1, 2**40) + field(3, field(1, 1))
    return write(folder / "shards.index", table([(b"", header)]))


def make_keys(folder):
    # The first key has a million characters, the other 20000 share them.
    from bundle_writer import varint

    entries = varint(0) + varint(0) + varint(2) + b"\x08\x01"
    entries += varint(0) + varint(MIB) + varint(0) + b"a" * MIB
    for number in range(20_000):
        entries += varint(MIB) + varint(4) + varint(0) + b"%04x" % number
    return write(folder / "keys.index", one_block_table(entries))


def one_block_table(entries):
    from bundle_writer import MAGIC, block, varint

    from deeplab2_d2.checkpoint.crc32c import masked_crc32c

    data = entries + struct.pack("<II", 0, 1) + b"\0"
    data += struct.pack("<I", masked_crc32c(data))
    index = block([(b"z", varint(0) + varint(len(data) - 5))])
    handles = varint(len(data)) + varint(len(block([])) - 5)
    handles += varint(len(data) + len(block([]))) + varint(len(index) - 5)
    footer = handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    return data + block([]) + index + footer


def make_long_name(folder):
    return tar_with_header(folder / "long_name.tar.gz", tarfile.GNUTYPE_LONGNAME)


def make_extended_header(folder):
    return tar_with_header(folder / "extended.tar.gz", tarfile.XHDTYPE)


def tar_with_header(path, kind):
    """A header that says that a GiB of what is kept of a file follows."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 1024 * MIB
    part = gzip.compress(b"a" * (16 * MIB))
    return write(path, gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + 64 * part)


def make_many_headers(folder):
    # Headers before a member may follow each other; each has 60 kB to keep.
    text = b"61440 comment=" + b"a" * (61440 - 15) + b"\n"
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, len(text)
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
            archive.addfile(info, io.BytesIO(text))
        header = buffer.getvalue()[: 512 + 61440]
    return write(folder / "many.tar.gz", gzip.compress(header * 10) * 1000)


def make_packed(folder):
    path = folder / "packed.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        with archive.open("archive/data/0", "w") as member:
            for _ in range(300):
                member.write(bytes(MIB))
    return path


def make_repeated(folder):
    import torch

    path = folder / "repeated.pth"
    torch.save({"model": {"a": torch.ones(1).expand(1 << 18, 1 << 18)}}, path)
    return path


def make_memo(folder):
    # An empty dict, kept at place 2**31 of the memo.
    return write(folder / "memo.pkl", b"\x80\x02}r\xff\xff\xff\x7f.")


def make_long_text(folder):
    return write(folder / "text.pkl", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.")


def write(path, content):
    path.write_bytes(content)
    return path


MAKERS = {name[5:]: made for name, made in sorted(globals().items()) if name.startswith("make_")}


def main():
    # What reading any checkpoint takes is not counted.
    from deeplab2_d2.checkpoint.weights_file import read_weights

    folder = Path(sys.argv[1])
    write(folder / "start.pkl", pickle.dumps({}, 2))
    read_weights(str(folder / "start.pkl"))
    paths = {name: make(folder) for name, make in MAKERS.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, path in paths.items():
        try:
            read_weights(str(path))
            error = "read"
        except (OSError, ValueError) as refusal:
            error = f"{type(refusal).__name__}: {refusal}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print(f"{name}\t{grown}\t{' '.join(error.split())[:400]}")


if __name__ == "__main__":
    main()
