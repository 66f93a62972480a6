"""A folder with a PNG file for each image."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor

from ddim.data.decode import SUFFIXES
from ddim.errors import UserError
from ddim.files import exclusive
from ddim.pictures import pngs, read_settings, write_each
from ddim.text import counted
from ddim.writers.base import Writer, common, report_unshared

BLOCK = 4096  # bytes: what a small file takes on the disk
THREADS = 8  # they wait for the disk at the same time


class PngFolder(Writer):
    """A PNG file for each image, 000000.png and so on, with its settings. The folder may hold other such images."""

    def locked(self) -> AbstractContextManager[None]:
        return exclusive(self.path, f"drawing images into {self.path}")

    def kept(self) -> dict[str, Any]:
        if not self.path.is_dir():
            return {}
        with os.scandir(self.path) as entries:
            drawn = next((entry.path for entry in entries if _index(entry.name) is not None), None)
        return (drawn and read_settings(drawn)) or {}

    def begin(self) -> None:
        pictures, ends, other, rows = 0, set[int](), False, self.request.rows
        vary = self.request.settings.get("labels") is not None and len(self.request.labels or ()) > 1
        with os.scandir(self.path) as entries:
            for entry in entries:
                draft = re.fullmatch(r"\.([0-9]{6,})\.ddim-[0-9a-f]{8}\.png", entry.name)
                if draft and int(draft[1]) in rows:
                    Path(entry.path).unlink(missing_ok=True)
                if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in SUFFIXES:
                    continue
                pictures += 1
                index = _index(entry.name)
                if index is None:
                    other = True
                else:
                    ends = {min(ends | {index}), max(ends | {index})}
                    if vary and index in rows:
                        other |= (read_settings(entry.path) or {}).get("label") != self.request.label(index)
        now = common(self.request.settings)
        if other or any(common(read_settings(self.path / f"{i:06d}.png")) != now for i in ends):
            raise UserError(
                f"{self.path} holds {counted(pictures, 'picture')} already, drawn with other settings or not by this "
                "command; name another folder for --out."
            )

    def done(self) -> bytearray:
        done, rows = bytearray(len(self.request.rows)), self.request.rows
        with report_unshared(self.path), os.scandir(self.path) as entries:
            for entry in entries:
                index = _index(entry.name)
                if index is not None and index in rows:
                    done[index - rows.start] = 1
        return done

    def write(self, indices: Sequence[int], images: Tensor) -> None:
        def one(index: int, image: Tensor) -> None:
            write_each(image[None], self.path, index, [self.request.of(index)])

        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(one, indices, images):  # an error of a thread is raised here
                pass

    def size(self, count: int, images: Tensor | None = None) -> int:
        if images is None:
            return BLOCK * count
        return sum(-(-len(png) // BLOCK) * BLOCK for png in pngs(images)) * count // len(images)


def _index(name: str) -> int | None:
    """Return the index of the image in a file of this name; None for other names."""
    return int(name[:-4]) if re.fullmatch(r"[0-9]{6,}\.png", name) else None
