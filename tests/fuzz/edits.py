"""What is done to a file that is right, as strategies of hypothesis."""

import copy
import io
import json
import struct
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from bundle_writer import table
from hypothesis import strategies as st

from deeplab2_d2.checkpoint.sorted_table import read_sorted_table

# Values of other types, sizes and meanings than any entry has.
ODD_VALUES: List[Any] = [
    None, True, 0, -1, 1, 1.5, 255, 2**31, 2**63, 10**400, 1e9, float("nan"), float("inf"),
    "", "a", "1", "\0", "a\nb", "../../a", "/a", "a" * 300, "\ud800", [], {}, [[]], [0], [None],
    [1, 2, 3, 4, 5, 1e9], [[0, 0, 5, 0, 5, float("nan")]], {"id": 1},
    {"size": [4, 6], "counts": [3]},
]  # fmt: skip


@st.composite
def edited_bytes(draw: Any, data: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """A few bytes set, flipped, cut, repeated or put in."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "drop", "repeat", "put"]))
        rest = data[place + 1 :]
        if kind == "flip" and place < len(data):
            data = data[:place] + bytes([data[place] ^ 1 << draw(st.integers(0, 7))]) + rest
        elif kind == "set" and place < len(data):
            data = data[:place] + bytes([draw(st.sampled_from([0, 1, 127, 128, 255]))]) + rest
        elif kind == "cut":
            data = data[:place]
        elif kind == "drop":
            data = data[:place] + data[place + draw(st.integers(1, 40)) :]
        elif kind == "repeat":
            part = data[place : place + draw(st.integers(1, 40))]
            data = data[:place] + part * draw(st.sampled_from([1, 2, 200])) + data[place:]
        else:
            part = draw(st.sampled_from(tokens) if tokens else st.binary(min_size=1, max_size=8))
            data = data[:place] + part + data[place:]
    return data


@st.composite
def edited_json(draw: Any, data: bytes) -> bytes:
    """A few entries replaced by odd ones, left out or doubled; or the text changed."""
    if draw(st.integers(0, 9)) == 0:
        return draw(edited_bytes(data, (b"[" * 2000, b"1e999", b"NaN", b"-", b'"', b"\\ud800")))
    content = [json.loads(data)]
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(content))
        node, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(["odd", "odd", "other", "leave out", "double"]))
        if kind == "odd":
            node[key] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
        elif kind == "other":
            other, name = places[draw(st.integers(0, len(places) - 1))]
            node[key] = copy.deepcopy(other[name])
        elif kind == "leave out" and node is not content:
            del node[key]
        elif kind == "double" and isinstance(node, list) and node is not content:
            node.append(copy.deepcopy(node[key]))
    return json.dumps(content[0]).encode()


def _places(node: Any) -> List[Tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    places = []
    for key in keys:
        places.append((node, key))
        if isinstance(node[key], (dict, list)):
            places += _places(node[key])
    return places


Edit = Callable[[bytes], "st.SearchStrategy[bytes]"]


def inside_zip(data: bytes) -> "st.SearchStrategy[bytes]":
    """A member changed, its checksum right; or the archive itself."""

    def pack(members: Dict[str, bytes]) -> bytes:
        with io.BytesIO() as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
            return file.getvalue()

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    inside = edited_bytes(members[name], (b"}", b"q", b"R", b"b", b"c__builtin__\neval\n"))
    return st.one_of(inside.map(lambda new: pack({**members, name: new})), edited_bytes(data))


def inside_tar(data: bytes) -> "st.SearchStrategy[bytes]":
    """Headers changed, their checksums right."""

    def seal(content: bytes) -> bytes:
        blocks = [content[i : i + 512] for i in range(0, len(content), 512)]
        for k, block in enumerate(blocks):
            if block[257:262] == b"ustar" and len(block) == 512:
                checksum = tarfile.calc_chksums(block)[0]
                blocks[k] = block[:148] + b"%06o\0 " % checksum + block[156:]
        return b"".join(blocks)

    tokens = (
        b"\x80" + bytes(6) + b"\xff",
        b"../",
        b"L",
        b"x",
        b"S",
        b"77777777777\0",
        b"GNU.sparse",
    )
    return edited_bytes(data, tokens).map(seal)


def inside_png(data: bytes) -> "st.SearchStrategy[bytes]":
    """Bytes changed, with the checksums of the chunks right where there are chunks."""

    def seal(content: bytes) -> bytes:
        sealed, place = content[:8], 8
        while place + 12 <= len(content):
            (length,) = struct.unpack(">I", content[place : place + 4])
            body = content[place + 4 : place + 8 + length]
            sealed += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
            place += 12 + length
        return sealed

    return edited_bytes(data, (b"\xff" * 4, b"\0" * 4, b"IDAT", b"tRNS", b"PLTE", b"acTL")).map(
        seal
    )


def inside_table(data: bytes) -> "st.SearchStrategy[bytes]":
    """Keys and values of a checkpoint's index changed, the checksums right; or the file itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(data)
        entries = read_sorted_table(str(path))

    @st.composite
    def edited(draw: Any) -> bytes:
        changed = list(entries)
        for _ in range(draw(st.integers(1, 2))):
            k, part = draw(st.integers(0, len(entries) - 1)), draw(st.integers(0, 1))
            pair = list(changed[k])
            pair[part] = draw(edited_bytes(pair[part], (b"\xff" * 9 + b"\1", b"\x12\0", b":\0")))
            changed[k] = (pair[0], pair[1])
        return table(changed)

    return st.one_of(edited(), edited(), edited_bytes(data))
