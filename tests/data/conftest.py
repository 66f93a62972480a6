"""What the tests of the data share: CIFAR's files as their author wrote them."""

import struct
from collections.abc import Callable, Sequence

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
