"""A local HTTP server of one file, with the ways in which servers fail."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Iterator, List, Optional


class FileServer:
    """
    Serves ``data`` under any path.

    Attributes:
        address: of the server.
        data, etag: the file now.
        cut_at: bytes of the body after which each connection is closed, as long as the list lasts.
        status: an answer instead of the file.
        extra_headers: added to each answer.
        ranges: the Range header of every request so far.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.etag: Optional[str] = '"1"'
        self.cut_at: List[int] = []
        self.status: Optional[int] = None
        self.extra_headers = {}
        self.has_ranges = True
        self.ranges: List[Optional[str]] = []
        self.address = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        if self.status is not None:
            request.send_error(self.status)
            return
        data, start = self.data, 0
        if wanted and self.has_ranges and request.headers.get("If-Range") == self.etag:
            start = int(wanted.partition("=")[2].partition("-")[0])
            if start >= len(data):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        if self.etag:
            request.send_header("ETag", self.etag)
        for name, value in self.extra_headers.items():
            request.send_header(name, value)
        body = data[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cut_at:
            body = body[: self.cut_at.pop(0)]
        request.wfile.write(body)


@contextmanager
def serve(data: bytes) -> Iterator[FileServer]:
    files = FileServer(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    files.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
