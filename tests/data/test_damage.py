"""A damaged file of a data set is read, or refused in a sentence; nothing else comes out of a reader.

`DAMAGED=20000 pytest tests/data/test_damage.py` tries so many versions of each file.
"""

import gzip
import io
import os
import pickle
import random
import struct
import tarfile

import numpy as np
import pytest

from damage import damaged
from ddim.data import unpickle
from ddim.data.cifar import read_archive, read_binary, read_python
from ddim.data.mnist import read_idx
from ddim.errors import UserError

COUNT = int(os.environ.get("DAMAGED", "200"))
ROWS = np.frombuffer(random.Random(0).randbytes(3 * 3072), np.uint8).reshape(3, 3072)
IDX = struct.pack(">HBB3I", 0, 8, 3, 3, 28, 28) + ROWS.tobytes()[: 3 * 28 * 28]


def pack(form):
    """An archive of two batches in one of the formats of tar, with a long name and one of other letters."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name in ("folder/" * 20 + "one", "é/two"):
            member = tarfile.TarInfo(name)
            member.size = 700
            tar.addfile(member, io.BytesIO(bytes(700)))
    return file.getvalue()


def archive(path):
    return read_archive(path, {"one", "two"})


def batch(path):
    return read_python(path.read_bytes(), "a")


FILES = {  # name -> whole file, how it is packed after it was damaged, function of a path that reads it
    "idx": (IDX, bytes, lambda path: read_idx(path, 3)),
    "idx in gzip": (IDX, gzip.compress, lambda path: read_idx(path, 3)),
    "gzip of idx": (gzip.compress(IDX), bytes, lambda path: read_idx(path, 3)),
    "pickle 2": (pickle.dumps({"data": ROWS, "labels": [1, 2, 3]}, 2), bytes, batch),
    "pickle 4": (pickle.dumps({"data": ROWS, "labels": [1, 2, 3]}, 4), bytes, batch),
    "data": (
        pickle.dumps([{"a": (1, "ü", b"b", None)}] * 9, 2),
        bytes,
        lambda path: unpickle.read(path.read_bytes(), ""),
    ),
    "binary": (b"\1" + ROWS[0].tobytes(), bytes, lambda path: read_binary(path.read_bytes(), "a")),
    "gnu tar in gzip": (pack(tarfile.GNU_FORMAT), gzip.compress, archive),
    "pax tar in gzip": (pack(tarfile.PAX_FORMAT), gzip.compress, archive),
    "ustar in gzip": (pack(tarfile.USTAR_FORMAT), gzip.compress, archive),
    "gzip of tar": (gzip.compress(pack(tarfile.GNU_FORMAT)), bytes, archive),
}


@pytest.mark.parametrize(("whole", "packed", "read"), FILES.values(), ids=FILES)
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # pickletools reads damaged text
def test_a_damaged_file_is_read_or_refused(tmp_path, whole, packed, read):
    path = tmp_path / "file"
    path.write_bytes(packed(whole))
    read(path)
    refusals = []
    for data in damaged(whole, COUNT):
        path.write_bytes(packed(data))
        try:
            read(path)
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > COUNT / 5
    assert max(map(len, refusals)) < 600
    assert not any("\n" in refusal for refusal in refusals)
