import base64
import contextlib
import errno
import hashlib
import os
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from file_server import serve

from deeplab2_d2.checkpoint.download import DownloadError, _Redirects, download

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server():
    with serve(DATA) as files:
        yield files


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "file.tar.gz"


def fetch(server, target, **options):
    download(f"{server.address}/file.tar.gz", str(target), wait_seconds=0.0, **options)


def test_a_whole_file_arrives_and_nothing_else_stays(server, target):
    fetch(server, target)
    assert target.read_bytes() == DATA
    assert [path.name for path in target.parent.iterdir()] == ["file.tar.gz"]


def test_a_broken_connection_is_continued_where_it_broke(server, target):
    server.cut_at = [100_000, 50_000]
    fetch(server, target)
    assert target.read_bytes() == DATA
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, target):
    server.cut_at = [120_000, 0, 0]
    with pytest.raises(DownloadError, match=r"at byte 120000 of 300000 \(after 3 attempts\)"):
        fetch(server, target, num_attempts=3)
    assert not target.exists()
    assert Path(f"{target}.part").read_bytes() == DATA[:120_000]
    fetch(server, target)
    assert target.read_bytes() == DATA
    assert server.ranges[-1] == "bytes=120000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, target):
    server.cut_at = [100_000]
    with pytest.raises(DownloadError):
        fetch(server, target, num_attempts=1)
    server.data, server.etag = DATA[::-1], '"2"'
    fetch(server, target)
    assert target.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("new_size", [300_000, 50_000])
def test_a_server_that_mixes_versions_is_not_believed(server, target, new_size):
    # It sends the rest of another version, although it was asked for this one's.
    server.cut_at = [100_000]
    with pytest.raises(DownloadError):
        fetch(server, target, num_attempts=1)
    answer = server.answer

    def ignore_if_range(request):
        request.headers.replace_header("If-Range", server.etag)
        server.answer = answer
        answer(request)

    server.data, server.etag = DATA[::-1][:new_size], '"2"'
    server.answer = ignore_if_range
    fetch(server, target)
    assert target.read_bytes() == DATA[::-1][:new_size]


def test_without_a_name_for_the_version_nothing_is_joined(server, target):
    server.etag = None
    server.cut_at = [100_000]
    fetch(server, target)
    assert target.read_bytes() == DATA
    assert server.ranges == [None, None]


def test_a_server_without_ranges_starts_over(server, target):
    server.has_ranges = False
    server.cut_at = [100_000]
    fetch(server, target)
    assert target.read_bytes() == DATA


def test_googles_md5_sum_is_checked(server, target):
    server.extra_headers["x-goog-hash"] = "md5=" + base64.b64encode(bytes(16)).decode()
    with pytest.raises(DownloadError, match="MD5 sum is not the server's"):
        fetch(server, target, num_attempts=2)
    assert not target.exists()
    digest = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    server.extra_headers["x-goog-hash"] = f"crc32c=AAAAAA==,md5={digest}"
    fetch(server, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("status, num_requests", [(404, 1), (503, 3)])
def test_a_refusal_is_told_and_only_a_busy_server_asked_again(server, target, status, num_requests):
    server.status = status
    with pytest.raises(DownloadError, match=f"file.tar.gz: .*{status}"):
        fetch(server, target, num_attempts=3)
    assert len(server.ranges) == num_requests


def test_no_network_is_told_with_the_address(target):
    url = "http://nothing.invalid/file.tar.gz"
    with pytest.raises(DownloadError, match=url):
        download(url, str(target), wait_seconds=0.0, num_attempts=2)


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b'{"validator": 5}',
        b'{"validator": "1\\r\\nX-Injected: 1"}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_a_state_file_that_is_damaged_is_not_believed(server, target, notes):
    server.cut_at = [100_000]
    with pytest.raises(DownloadError):
        fetch(server, target, num_attempts=1)
    Path(f"{target}.part.json").write_bytes(notes)
    fetch(server, target)
    assert target.read_bytes() == DATA
    assert server.ranges == [None, None]


@pytest.mark.parametrize("length", ["many", "-5", "1e9"])
def test_a_length_that_is_none_is_not_believed(server, target, length):
    answer = server.answer

    def answer_otherwise(request):
        send = request.send_header
        request.send_header = lambda name, value: send(
            name, length if name == "Content-Length" else value
        )
        answer(request)

    server.answer = answer_otherwise
    with contextlib.suppress(DownloadError):
        fetch(server, target, num_attempts=1)
    assert not target.exists() or target.read_bytes() == DATA


@pytest.mark.parametrize(
    "start, end, is_followed",
    [
        ("https", "https", True),
        ("https", "http", False),
        ("https", "ftp", False),
        ("http", "https", True),
        ("http", "http", True),
        ("http", "file", False),
    ],
)
def test_the_way_never_leads_out_of_https(start, end, is_followed):
    request = urllib.request.Request(f"{start}://one.example/a")
    arguments = (request, None, 302, "Found", {}, f"{end}://two.example/a")
    if is_followed:
        assert _Redirects().redirect_request(*arguments).full_url == f"{end}://two.example/a"
    else:
        with pytest.raises(DownloadError, match=f"one.example/a: the server leads to {end}://two"):
            _Redirects().redirect_request(*arguments)


def test_a_redirect_to_another_protocol_is_refused_and_a_usual_one_followed(server, target):
    answer, place = server.answer, [f"{server.address}/moved", "ftp://two.example/a"]

    def redirect(request):
        if not place:
            return answer(request)
        request.send_response(302)
        request.send_header("Location", place.pop(0))
        request.end_headers()

    server.answer = redirect
    with pytest.raises(DownloadError, match="leads to ftp://two.example/a, which is not https or"):
        fetch(server, target)
    place.append(f"{server.address}/moved")
    fetch(server, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://one.example/a", "/etc/passwd"])
def test_other_addresses_are_refused(target, url):
    with pytest.raises(DownloadError, match="must be https or http"):
        download(url, str(target))


def test_more_than_any_checkpoint_has_is_given_up(server, target, monkeypatch):
    monkeypatch.setattr("deeplab2_d2.checkpoint.download._MAX_BYTES", 200_000)
    with pytest.raises(DownloadError, match="more than 200000 bytes came"):
        fetch(server, target)
    assert not target.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_with_the_file(server, target, monkeypatch):
    target.parent.mkdir()
    part = Path(f"{target}.part")
    part.symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        fetch(server, target)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(part)
    assert not target.exists()
    part.unlink()  # There is space again.
    fetch(server, target)
    assert target.read_bytes() == DATA
