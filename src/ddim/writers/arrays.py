"""One array that grows on the disk, as .npy or as .npz file, its images in the order of their indices.

It is (N, H, W, C) uint8; of a model that was trained on arrays, it has their range, type and layout.

A .npz file holds the images as `arr_0` and their classes as `arr_1`, the names that guided-diffusion writes and that
its evaluation reads, and the settings as text in `settings`. A .npy file holds the images alone; its settings are in a
JSON file beside it. An array grows in a hidden folder beside its place, and becomes a file there when it is complete.
"""

import contextlib
import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ddim.errors import UserError
from ddim.files import exclusive, read_table, refusal, sweep, write_text
from ddim.writers.base import Request, Writer, common, report_unshared

PART = 2**20  # bytes, or labels, in memory at a time while a .npz file is completed
IMAGES, LABELS, SETTINGS = "arr_0.npy", "arr_1.npy", "settings.npy"  # members of a .npz file


class Npy(Writer):
    """One .npy file, and beside it its settings as JSON, in a file of the same name with `.json` added.

    While it grows, it lies in the folder `draft` as `rows`, with a byte for each image in `done` that is 1 as soon as
    the image is on the disk.
    """

    def __init__(self, path: Path, request: Request) -> None:
        super().__init__(path, request)
        rows = request.rows
        self.draft = path.with_name(f".{path.name}.ddim")
        self._rows, self._done, self._about = (self.draft / name for name in ("rows", "done", "settings.json"))
        labels = None if request.labels is None else list(request.labels)
        about = {**request.settings, "first": rows.start, "count": len(rows), "row_labels": labels}
        self.settings: dict[str, Any] = json.loads(json.dumps(about))
        channels, height, width = request.shape
        values = request.values
        shape = (height, width, channels) if values is None else values.shape(request.shape)
        dtype = np.dtype(np.uint8 if values is None else values.dtype)
        self._image = math.prod(shape) * dtype.itemsize  # bytes
        self._header = _npy_header(dtype, (len(rows), *shape))
        self._start = self._offset()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        try:
            with exclusive(self.draft, f"drawing images into {self.path}"):
                yield
        finally:
            with contextlib.suppress(OSError):  # it holds a part of the images
                self.draft.rmdir()

    def kept(self) -> dict[str, Any]:
        return self._written_settings() if self.path.exists() else _table(self._about)

    def begin(self) -> None:
        count = len(self.request.rows)
        end = self._start + count * self._image
        sweep(self.path.parent, self.path.name)  # a settings file that a killed command has not completed
        if self.path.exists():
            self._refuse_other(self._written_settings(), f"{self.path} exists already", "choose another --out")
        elif all(path.exists() for path in (self._about, self._rows, self._done)):
            remedy = "repeat that command, choose another --out, or delete that folder"
            self._refuse_other(_table(self._about), f"{self.draft} holds a part of {self.path.name}", remedy)
            if self._rows.stat().st_size >= end and self._done.stat().st_size == count:
                return  # else a copy of it was cut, and lacks images that it counts
        self._clear()
        if self.path.exists():
            return
        with self._reported():
            with self._rows.open("wb") as rows:
                rows.seek(self._start - len(self._header))
                rows.write(self._header)
                rows.truncate(end)
            with self._done.open("wb") as done:
                done.truncate(count)
        write_text(self._about, json.dumps(self.settings))  # last: it says that the others are whole

    def done(self) -> bytearray:
        if self.path.exists():
            return bytearray(b"\1") * len(self.request.rows)
        with report_unshared(self.draft):
            return bytearray(self._done.read_bytes())

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        values = self.request.values
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy() if values is None else values.restore(images)
        places = [index - self.request.rows.start for index in indices]
        with self._reported(), self._rows.open("r+b") as rows, self._done.open("r+b") as done:
            for place, image in zip(places, pixels, strict=True):
                rows.seek(self._start + place * self._image)
                rows.write(image.tobytes())
            rows.flush()
            os.fsync(rows.fileno())
            for place in places:
                done.seek(place)
                done.write(b"\1")

    def size(self, count: int, images: Tensor | None = None) -> int:
        return count * self._image

    def finish(self) -> None:
        if not self.path.exists():
            with self._reported():
                self._complete()
                with self._rows.open("r+b") as file:
                    os.fsync(file.fileno())
                self._rows.replace(self.path)
        self._clear()

    def discard(self) -> None:
        if self.path.exists() or not any(self.done()):
            self._clear()

    def _offset(self) -> int:
        """Return the byte at which the images begin."""
        return len(self._header)

    def _complete(self) -> None:
        """Write what belongs to the file in addition to the images."""
        write_text(self._beside, json.dumps(self.settings, indent=2) + "\n")

    def _written_settings(self) -> dict[str, Any]:
        return _table(self._beside)

    @property
    def _beside(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _refuse_other(self, found: dict[str, Any], what: str, remedy: str) -> None:
        before, now = common(found), common(self.settings)
        changed = [name for name in now | before if before.get(name) != now.get(name)]
        if changed:
            name = changed[0]
            how = (
                f"drawn with {name} = {before.get(name)!r}, not {now.get(name)!r}"
                if found
                else "not drawn by this command"
            )
            raise UserError(f"{what}, {how}; {remedy}.")

    def _clear(self) -> None:
        """Remove all files of the draft folder except the lock."""
        with self._reported():
            for path in (self._about, *self.draft.iterdir()):  # first what says that the others are whole
                if path.name != ".lock":
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise refusal(self.path, error) from error


class Npz(Npy):
    """One .npz file: an uncompressed zip archive whose first member, the images, is written in its place.

    The checksum of that member and the other members follow when all images are there. A file may exceed 4 GB (ZIP64).
    """

    def _offset(self) -> int:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive, _member(archive, IMAGES):
            start = buffer.tell()
        return start + len(self._header)

    def _complete(self) -> None:
        """Complete the archive. The images are read for their checksum, and are not written again."""
        end = self._start + len(self.request.rows) * self._image
        os.truncate(self._rows, end)  # a command may have been killed here before
        with (
            self._rows.open("rb") as images,
            _Around(io.FileIO(self._rows, "r+b")) as file,
            zipfile.ZipFile(file, "w") as archive,
        ):
            file.kept = range(self._start, end)
            images.seek(self._start)
            with _member(archive, IMAGES) as member:
                member.write(self._header)
                shutil.copyfileobj(images, member, PART)
            labels = self.request.labels
            if labels is not None:
                count = len(self.request.rows)
                with _member(archive, LABELS) as member:
                    member.write(_npy_header(np.int64, (count,)))
                    for start in range(0, count, PART):
                        places = np.arange(start, min(start + PART, count)) % len(labels)
                        member.write(np.asarray(labels, np.int64)[places].tobytes())
            with _member(archive, SETTINGS) as member:
                np.lib.format.write_array(member, np.asarray(json.dumps(self.settings)), allow_pickle=False)

    def _written_settings(self) -> dict[str, Any]:
        try:
            with np.load(self.path) as file:
                settings = json.loads(str(file["settings"]))
        except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
            return {}
        return settings if isinstance(settings, dict) else {}


class _Around(io.BufferedRandom):
    """A file whose bytes in `kept` are never written again: a write there only moves the position.

    `zipfile` writes there if an error stops it.
    """

    kept = range(0)

    def write(self, data: Any) -> int:
        here, data = self.tell(), memoryview(data)
        if here not in self.kept:
            return super().write(data)
        skipped = min(len(data), self.kept.stop - here)
        self.seek(here + skipped)
        return skipped + super().write(data[skipped:])


def _table(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file; an empty one if it cannot be read."""
    try:
        return read_table(path)
    except (OSError, ValueError):
        return {}


def _npy_header(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    description = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """Open a member for writing; its header has the same bytes and the same length in every archive."""
    return archive.open(zipfile.ZipInfo(name), "w", force_zip64=True)
