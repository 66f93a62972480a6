"""What the tests of the data share: CIFAR's files as their author wrote them, and a web server that misbehaves."""

import functools
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture(autouse=True)
def _nothing_from_this_machine(monkeypatch, tmp_path):
    """No data folder, an empty cache, and no proxy before the local server."""
    monkeypatch.delenv("DDIM_DATA", raising=False)
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="session")
def python2_batch() -> Callable[[bytes, Sequence[int]], bytes]:
    """A writer of batches in the instructions of the official files (see `python -m pickletools test_batch`)."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def integer(value: int) -> bytes:
        return b"M" + struct.pack("<H", value)

    def write(pixels: bytes, labels: Sequence[int]) -> bytes:
        rows = len(pixels) // 3072
        return b"".join(
            [
                b"\x80\x02}q\x01(" + text(b"data") + b"q\x02",
                b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04",
                b"K\x00\x85" + text(b"b") + b"\x87Rq\x05",
                b"(K\x01" + integer(rows) + integer(3072) + b"\x86",
                b"cnumpy\ndtype\nq\x06" + text(b"u1") + b"K\x00K\x01\x87Rq\x07",
                b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
                b"\x89T" + struct.pack("<i", len(pixels)) + pixels + b"tb",
                text(b"labels") + b"q\x08]q\x09(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
                text(b"batch_label") + b"q\x0a" + text(b"testing batch 1 of 1") + b"u.",
            ]
        )

    return write


@dataclass
class Server:
    """One file on localhost, and how the server fails to give it."""

    content: bytes = b""
    ranges: bool = True  # whether it honours a Range
    shift: int = 0  # by how many bytes it misses the Range
    stop_after: int | None = None  # bytes of the body, after which it hangs up
    status: int | None = None  # answer this, and nothing else
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    port: int = 0

    def url(self, name: str = "file.gz") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.of = server
        super().__init__(*args)

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.of.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.of.ranges else 0
        start += self.of.shift if start else 0
        size = len(self.of.content)
        if self.of.status or (start and start >= size):
            self.send_error(self.of.status or 416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self.wfile.write(self.of.content[start : self.of.stop_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a server: `serve(content, ranges=False)`; all stop when the test ends."""
    running = []

    def start(content: bytes = b"", **faults: object) -> Server:
        server = Server(content, **faults)
        http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, server))
        server.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((http, thread))
        return server

    yield start
    for http, thread in running:
        http.shutdown()
        thread.join()
        http.server_close()
