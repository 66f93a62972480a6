"""Draw many images to the disk, batch by batch, by one process or by several under `torchrun`.

Batch b holds the same images for any number of processes and after an interrupt, because a network rounds an image
differently in another batch. Of P processes, the one of rank r takes the batches b with b mod P = r. The first one
alone locks, begins and completes what is written.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ddim.errors import UserError
from ddim.progress import bar, hidden, note
from ddim.text import data_size, duration

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.train.distributed import Distributed
    from ddim.writers import Writer

PATIENCE = timedelta(days=30)  # how long a process waits for a slower one
SLOW = 60  # seconds: a command that takes longer says so first

Drawn = Callable[[Iterable[range], int, int, Callable[["Tensor"], str | None]], Iterator[tuple[range, "Tensor"]]]
"""(batches, number of images left, processes, `after_first`) -> see `drawn`."""


def connect(device: str | None) -> "Distributed | None":
    """Connect the processes that `torchrun` has started; None for a lone process.

    Raises `UserError` for variables that do not fit together, and for processes that do not find each other.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        return None
    from ddim.train.distributed import Distributed  # here, because a lone process does without it

    return Distributed(device, patience=PATIENCE)


def batches(rows: range, size: int) -> Iterator[range]:
    """Yield the indices of each batch."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def drawn(
    sample: Callable[[range, bool], "Tensor"],
    size: int,
    parts: Iterable[range],
    left: int,
    processes: int = 1,
    after_first: Callable[["Tensor"], str | None] = lambda _: "",
) -> Iterator[tuple[range, "Tensor"]]:
    """Yield the indices of each batch, and its images, (B, C, H, W), as `sample` returns them.

    After the first batch, say how long all will take if that is long.

    Args:
        sample: returns the images of these indices; it shows a bar if its second argument says so.
        size: number of images in a batch.
        parts: the batches of this process.
        left, processes: number of images that all processes together have to draw, and number of processes.
        after_first: is called with the first images, and returns what else to say; None says nothing.
    """
    several, began, first = left > size, time.monotonic(), True
    with bar(total=left, desc=f"sampling {left}", unit="image", disable=None if several else True) as progress:
        for rows in parts:
            images = sample(rows, not several)
            if first:
                first, seconds = False, (time.monotonic() - began) / len(rows) * left / processes
                more = after_first(images)
                if several and seconds > SLOW and more is not None:
                    note(f"{left:,} images take about {duration(seconds)}{more}.")
            progress.update(min(processes * len(rows), left - progress.n))  # the others are about as fast
            yield rows, images


def draw_missing(
    drawn: Drawn, writer: "Writer", size: int, place: Path, distributed: "Distributed | None" = None
) -> bool:
    """Draw and write the missing images of a request. In the first process, return whether anything was left to do.

    Args:
        drawn, writer: what draws and what writes.
        size: number of images in a batch.
        place: an existing folder on the disk that takes the images.
        distributed: the processes that draw; None is a lone one.

    Raises:
        UserError: images of other settings are there, another command writes them, or the disk has no room for them.
    """
    rows, path = writer.request.rows, writer.path
    rank, processes = (0, 1) if distributed is None else (distributed.rank, distributed.processes)
    main = rank == 0
    with hidden(not main), writer.locked() if main else nullcontext():
        with nullcontext() if distributed is None else distributed.main_first():
            if main:
                writer.begin()
            done = writer.done()
        left, complete = done.count(0), path.exists()
        if main and 0 < left < len(rows):
            held = len(rows) - left
            note(f"{held:,} of {len(rows):,} images are in {path} already; the other {left:,} follow.")

        def after_first(images: "Tensor") -> str | None:
            if not main:
                return None
            needed = writer.size(left, images)
            check_room(place, left, needed)
            return f", and their files about {data_size(needed)}"

        try:
            check_room(place, left, writer.size(left))
            parts = (
                part
                for number, part in enumerate(batches(rows, size))
                if number % processes == rank and 0 in done[part.start - rows.start : part.stop - rows.start]
            )
            for part, images in drawn(parts, left, processes, after_first):
                missing = [i for i, index in enumerate(part) if not done[index - rows.start]]
                writer.write([part[i] for i in missing], images[missing])
            if distributed is not None:
                distributed.sum(0.0)  # all have written their images
            if main:
                if absent := writer.done().count(0):
                    raise UserError(
                        f"{absent:,} of {len(rows):,} images are missing in {path}: not all machines see it; put --out "
                        "where they do, and repeat the command."
                    )
                writer.finish()
        except BaseException as error:
            if main:
                held = len(rows) - writer.done().count(0)
                if isinstance(error, KeyboardInterrupt) and held:
                    note(f"{held:,} of {len(rows):,} images for {path} are on the disk; the same command continues.")
                writer.discard()
            raise
    if distributed is not None:
        distributed.close()
    return bool(left) or not complete


def check_room(place: Path, count: int, needed: int, of_all: bool = False) -> None:
    """Raise `UserError` if the disk of a folder has fewer bytes free; with `of_all`, if the whole disk is smaller."""
    disk = shutil.disk_usage(place)
    if needed > (disk.total if of_all else disk.free):
        raise UserError(
            f"{count:,} images need about {data_size(needed)} on the disk, and {place} has {data_size(disk.free)} "
            "free; draw fewer, or choose a folder on a larger disk."
        )
