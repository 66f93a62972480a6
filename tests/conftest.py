"""What several tests share: a small model, closed-form denoisers, and a web server that misbehaves."""

import functools
import importlib.util
import itertools
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from ddim import nets, schedule
from ddim.denoiser import Denoiser
from ddim.level import Denoise
from ddim.verify.exact import Gaussian

PAGE = Path(__file__).parents[1] / "docs/page"
os.environ["DDIM_BACKEND"] = "torch"  # images to the bit; tests/backends test the others


@pytest.fixture
def model() -> Denoiser:
    """A tiny U-Net on 8x8 images whose output depends on all of its input: no layer is left at zero."""
    torch.manual_seed(0)
    network = nets.build("unet", 1, "tiny", width=16)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return Denoiser(network, schedule.linear(), shape=(1, 8, 8)).eval()


@pytest.fixture
def gaussian() -> Callable[[float, float], Denoise]:
    """The exact denoiser for images whose pixels are independent N(mean, std^2)."""

    return lambda mean, std: Gaussian((mean,), (std,)).denoise


@pytest.fixture
def run_folder(model: Denoiser, tmp_path: Path) -> Path:
    """A run folder that holds `model`."""
    from ddim import model_io

    model_io.save(model, tmp_path / "run")
    return tmp_path / "run"


@dataclass
class Server:
    """One file on localhost, and how the server fails to give it."""

    content: bytes = b""
    ranges: bool = True  # whether it honours a Range
    shift: int = 0  # by how many bytes it misses the Range
    stop_after: int | None = None  # bytes of the body, after which it hangs up
    status: int | None = None  # answer this, and nothing else
    to: str | None = None  # the address that it points to instead
    length: bool = True  # whether it tells the length of what it sends
    endless: bool = False  # whether it sends its content again and again
    pause: float = 0.0  # seconds before each 1000 bytes; without content, before it hangs up
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    port: int = 0

    def url(self, name: str = "file.gz") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: Any) -> None:
        self.of = server
        super().__init__(*args)

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.of.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.of.ranges else 0
        start += self.of.shift if start else 0
        size = len(self.of.content)
        if self.of.pause and not size:
            time.sleep(self.of.pause)
            return
        if self.of.status or (start and start >= size):
            self.send_error(self.of.status or 416)
            return
        if self.of.to:
            self.send_response(302)
            self.send_header("Location", self.of.to)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.of.length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        content = self.of.content[start : self.of.stop_after]
        with suppress(ConnectionError):  # the other side has heard enough
            for piece in itertools.repeat(content) if self.of.endless else (content,):
                for at in range(0, len(piece), 1000) if self.of.pause else (0,):
                    time.sleep(self.of.pause)
                    self.wfile.write(piece[at : at + 1000] if self.of.pause else piece)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def build() -> Any:
    """The module docs/page/build.py."""
    pytest.importorskip("onnx", reason="builds the page with onnx")
    spec = importlib.util.spec_from_file_location("build_page", PAGE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def axe(build: Any) -> str:
    """The script of axe-core, by npm."""
    try:
        with tarfile.open(build.package("axe-core", PAGE / ".packages")) as files:
            return str(build.member(files, "package/axe.min.js"), "utf-8")
    except SystemExit as error:
        pytest.skip(f"npm cannot fetch its packages: {error}")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a server: `serve(content, ranges=False)`; all stop when the test ends."""
    running = []

    def start(content: bytes = b"", **faults: Any) -> Server:
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
