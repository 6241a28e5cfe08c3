"""Downloading large files: resumed where they broke off, never joined from two versions."""

import base64
import hashlib
import json
import logging
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import Any, Dict, Optional

from tqdm import tqdm

from ..structures import atomic_path

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
# The largest checkpoint of DeepLab2 takes about 7 GB.
_MAX_BYTES = 32 << 30
_MAX_NOTES = 1 << 16
_MD5 = re.compile(r"md5=([A-Za-z0-9+/=]+)")


class DownloadError(OSError):
    """A file could not be had; the message names its address and what went wrong."""


def download(url: str, path: str, *, num_attempts: int = 5, wait_seconds: float = 1.0) -> None:
    """
    Download a file; it appears at ``path`` when it is whole.

    Until then its beginning stands in ``path``.part, from where this or a later call goes on. The
    server's ETag (or date) is kept beside it: a file that has changed meanwhile is fetched anew.
    The size is checked, and the MD5 sum where the server sends one (Google's storage does). From
    https the way never leads elsewhere.

    Args:
        url: http or https.
        path: where to put the file.
        num_attempts: broken connections in a row, without a new byte, before it is given up.
        wait_seconds: before the second attempt; doubles with each further one.

    Raises:
        DownloadError: if the server cannot be reached, refuses, breaks off too often, leads from
            https to another protocol, or sends more than any checkpoint has.
        OSError: if the disk is full; the beginning stays.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url}: an address must be https or http")
    part = _Part(path)
    failures = 0
    while True:
        size_before = part.size
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or failures + 1 >= num_attempts:
                raise DownloadError(f"{url}: the server answers {error.code} {error.reason}")
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, HTTPException, ConnectionError, socket.timeout) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            if isinstance(getattr(error, "reason", None), socket.gaierror):
                raise DownloadError(f"{url}: {reason}") from error  # No network, or no such server.
        failures = 0 if part.size > size_before else failures
        failures += 1
        if failures >= num_attempts:
            raise DownloadError(f"{url}: {reason} (after {failures} attempts)")
        logger.warning("%s: %s at byte %d; trying again", url, reason, part.size)
        time.sleep(wait_seconds * 2 ** (failures - 1))
    part.finish()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http only from http, and to nothing else than http and https."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        allowed = ("https",) if req.type == "https" else ("https", "http")
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise DownloadError(
                f"{req.full_url}: the server leads to {newurl}, which is not {' or '.join(allowed)}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Part:
    """The beginning of a file on disk, and which version of the file it begins."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.data = path + ".part"
        self._notes = path + ".part.json"
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)

    @property
    def size(self) -> int:
        return os.path.getsize(self.data) if os.path.exists(self.data) else 0

    @property
    def validator(self) -> Optional[str]:
        """The server's name for the version that was begun; None if there is none."""
        if self.size == 0 or not os.path.exists(self._notes):
            return None
        with open(self._notes, "rb") as file:
            text = file.read(_MAX_NOTES)
        try:
            validator = json.loads(text)["validator"]
        except (ValueError, LookupError, TypeError, RecursionError):
            validator = None
        # It becomes a line of a request.
        is_sound = isinstance(validator, str) and validator.isascii() and validator.isprintable()
        if not is_sound:
            logger.warning("%s is damaged: the download begins anew", self._notes)
        return validator if is_sound else None

    def restart(self, validator: Optional[str]) -> None:
        open(self.data, "wb").close()
        with atomic_path(self._notes) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({"validator": validator}, file)

    def finish(self) -> None:
        os.replace(self.data, self._path)
        os.remove(self._notes)


def _continue(url: str, part: _Part) -> None:
    """One connection: the rest of the file, or all of it where it cannot be continued."""
    headers: Dict[str, str] = {"User-Agent": "deeplab2_d2", "Accept-Encoding": "identity"}
    validator = part.validator
    if validator is not None:
        headers.update({"Range": f"bytes={part.size}-", "If-Range": validator})
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(_Redirects)
    try:
        response = opener.open(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # Range not satisfiable: what stands there is not its beginning.
            raise
        part.restart(None)
        response = opener.open(url, timeout=_TIMEOUT_SECONDS)
    with response:
        found = response.headers.get("ETag") or response.headers.get("Last-Modified")
        start = _range_start(response)
        if start is None or start != part.size or found != validator:
            if start:
                # A part of a version, or from a place, that was not asked for.
                part.restart(None)
                raise ConnectionError("the file has changed on the server")
            part.restart(found)
        _receive(response, url, part)
        _check_md5(response, part)


def _range_start(response: HTTPResponse) -> Optional[int]:
    if response.status != 206:
        return None
    found = _RANGE.match(response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _receive(response: HTTPResponse, url: str, part: _Part) -> None:
    length = response.headers.get("Content-Length", "")
    expected = part.size + int(length) if length.isdecimal() else None
    name = os.path.basename(url)
    with (
        open(part.data, "ab") as file,
        tqdm(
            desc=name, total=expected, initial=part.size, unit="B", unit_scale=True, leave=False
        ) as progress,
    ):
        while True:
            chunk = response.read(_CHUNK)
            if not chunk:
                break
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                # A failed write knows its reason (a full disk), but not its file.
                raise OSError(error.errno, error.strerror, part.data) from error
            progress.update(len(chunk))
            if part.size > _MAX_BYTES:
                raise DownloadError(f"{url}: more than {_MAX_BYTES} bytes came")
    if expected is not None and part.size != expected:
        raise ConnectionError(f"the connection was closed at byte {part.size} of {expected}")


def _check_md5(response: HTTPResponse, part: _Part) -> None:
    stated = _MD5.search(",".join(response.headers.get_all("x-goog-hash", [])))
    if stated is None:
        return
    digest = hashlib.md5()
    with open(part.data, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    if base64.b64encode(digest.digest()).decode() != stated[1]:
        part.restart(None)
        raise ConnectionError("the MD5 sum is not the server's")
