"""The IDX format, whole and broken in every way."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ddim.data.mnist import read_idx
from ddim.errors import UserError

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4) + ARRAY.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_was_written_is_read(tmp_path, pack):
    (tmp_path / "file").write_bytes(pack(WHOLE))
    array = read_idx(tmp_path / "file", dims=3)
    np.testing.assert_array_equal(array, ARRAY)
    assert array.dtype == np.uint8


def with_crc_of_something_else() -> bytes:
    packed = bytearray(gzip.compress(WHOLE))
    packed[-8] ^= 1
    return bytes(packed)


BROKEN = {
    "empty file": (b"", "does not start as"),
    "no IDX": (b"\x89PNG" + WHOLE[4:], "does not start as"),
    "other type": (WHOLE[:2] + b"\x0d" + WHOLE[3:], "does not start as"),
    "other dimensions": (WHOLE[:3] + b"\x01" + WHOLE[4:], "does not start as"),
    "header cut": (WHOLE[:10], "does not start as"),
    "truncated": (WHOLE[:-1], "should hold 24 bytes.*holds 23"),
    "too long": (WHOLE + b"\0", "should hold 24 bytes.*holds more"),
    "absurd size": (WHOLE[:4] + b"\xff" * 12 + WHOLE[16:], "should hold .* bytes.*268435456 are allowed"),
    "no images": (WHOLE[:4] + bytes(4) + WHOLE[8:16], "holds no data"),
    "gzip truncated": (gzip.compress(WHOLE)[:-9], "Could not read"),
    "gzip garbled": (gzip.compress(WHOLE)[:10] + b"\xff" * 20, "Could not read"),
    "gzip of other content": (with_crc_of_something_else(), "CRC"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_the_reason(tmp_path, data, reason):
    (tmp_path / "broken-file").write_bytes(data)
    with pytest.raises(UserError, match=f"broken-file.*{reason}|{reason}.*broken-file"):
        read_idx(tmp_path / "broken-file", dims=3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="absent"):
        read_idx(tmp_path / "absent", dims=1)


def test_no_more_is_unpacked_than_the_header_announces(tmp_path):
    """100 MB of zeros in 100 kB, announced as 24 bytes."""
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(WHOLE)
        for _ in range(100):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"bomb should hold 24 bytes, .* but holds more"):
            read_idx(tmp_path / "bomb", dims=3)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="file: Permission denied; allow reading it or choose another one") as told:
        read_idx(tmp_path / "file", dims=3)
    assert "download" not in str(told.value)
