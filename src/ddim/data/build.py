"""From a list of files to pixels: decoded once, by several threads, straight to the disk."""

import hashlib
import os
import re
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from ddim.data import cache, decode
from ddim.data.cache import About, Stored
from ddim.data.catalogue import Catalogue, Entry, Skipped, none_readable
from ddim.data.decode import Picture, Unreadable
from ddim.data.download import cache_folder
from ddim.data.holdout import held_out
from ddim.data.lock import alone
from ddim.errors import UserError
from ddim.files import refusal

SMALL = 64  # sets of one square size up to here keep it
USUAL = 32  # the size of all others, unless one is asked for

Item = TypeVar("Item")
Result = TypeVar("Result")


class Fact(NamedTuple):
    """What is kept of each file besides its pixels."""

    name: str
    label: int
    split: str
    digest: str
    width: int
    height: int
    mode: str
    format: str
    colour: bool


def stored(catalogue: Catalogue, size: int | None) -> Stored:
    """The decoded images of a catalogue, from the cache if they are there.

    Of several processes that ask at once, one decodes and the others wait for it. Copies of an earlier state of
    the same files are removed.

    Args:
        catalogue: what to read.
        size: pixels a side; None keeps the size of images that are all squares of one size, 64 at most, and
            makes 32 of all others.

    Raises:
        UserError: a size below 1 or above 1024, no readable image (or none of a class that was asked for), or
            the cache cannot be written.
    """
    if size is not None and not 1 <= size <= 1024:
        raise UserError(f"Images cannot be resized to {size} pixels; ask for 1 to 1024.")
    source = _short(f"{catalogue.identity} {size}")
    prefix = f"{re.sub(r'[^A-Za-z0-9]+', '_', catalogue.name)[:40]}-{source}"
    folder = cache_folder() / "images"
    path = folder / f"{prefix}-{_short(f'{decode.VERSION} {catalogue.state}')}.safetensors"
    if found := cache.read(path):
        return found
    with alone(folder / f"{prefix}.lock"):
        if found := cache.read(path):  # another process was faster
            return found
        _build(catalogue, size, path)
        for old in set(folder.glob(f"{prefix}-*.safetensors")) - {path}:
            old.unlink(missing_ok=True)
        if found := cache.read(path):
            return found
    raise UserError(f"What was written to {path} did not read back the same; check the disk, or set DDIM_CACHE.")


def _build(catalogue: Catalogue, size: int | None, path: Path) -> None:
    Image.init()  # Pillow loads its decoders here, and not when the first threads ask for them
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on large and odd files: each is decoded or listed
        side = size or _common(_sizes(catalogue, pool))
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=path.parent) as spool:
                    facts, skipped = _decode_all(catalogue, side, pool, spool)
                    if not facts:
                        raise none_readable(catalogue.name, [*catalogue.skipped, *skipped])
                    right = size or _common((fact.width, fact.height) for fact in facts)
                    if right == side:
                        _write(catalogue, facts, skipped, side, spool, path)
                        return
                    side = right  # a file whose head was whole and whose rest was not had misled
            except OSError as error:
                raise refusal(path, error) from error


def _sizes(catalogue: Catalogue, pool: ThreadPoolExecutor) -> Iterator[tuple[int, int]]:
    def look(entry: Entry) -> tuple[int, int] | None:
        try:
            with entry.open() as file:
                return decode.measure(file)
        except (Unreadable, OSError):
            return None

    return (found for found in _in_order(pool, look, catalogue.entries) if found)


def _common(sizes: Iterator[tuple[int, int]]) -> int:
    """The side of the images if all are small squares of one size; it stops looking at the first that is not."""
    width, height = next(sizes, (0, 0))
    same = width == height <= SMALL and all(one == (width, height) for one in sizes)
    return width if same and width else USUAL


def _decode_all(
    catalogue: Catalogue, size: int, pool: ThreadPoolExecutor, spool: BinaryIO
) -> tuple[list[Fact], list[Skipped]]:
    """Write (3, size, size) bytes to `spool` for each image that can be read, and give what is known of each."""

    def read(entry: Entry) -> tuple[str, Picture] | str:
        try:
            with entry.open() as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
                file.seek(0)
                return digest, decode.decode(file, size)
        except Unreadable as reason:
            return str(reason)
        except OSError as error:
            return f"cannot be opened: {error.strerror or error}"

    facts, skipped = [], []
    files = tqdm(catalogue.entries, desc=f"decoding {catalogue.name}", unit="image", disable=None)
    for entry, result in zip(files, _in_order(pool, read, catalogue.entries), strict=True):
        if isinstance(result, str):
            skipped.append(Skipped(entry.name, result))
            continue
        digest, picture = result
        pixels = picture.pixels
        spool.write(pixels.tobytes())
        colour = bool((pixels[0] != pixels[1]).any() or (pixels[1] != pixels[2]).any())
        facts.append(Fact(entry.name, entry.label, entry.split or "", digest, *picture[1:], colour))
    spool.flush()
    return facts, skipped


def _write(
    catalogue: Catalogue, facts: Sequence[Fact], skipped: Sequence[Skipped], size: int, spool: BinaryIO, path: Path
) -> None:
    """Put the rows of the spool in order: training images first, and one channel if none has colour."""
    kept = held_out(fact.digest for fact in facts if not fact.split)
    splits = [fact.split or ("test" if fact.digest in kept else "train") for fact in facts]
    order = sorted(range(len(facts)), key=lambda i: splits[i] == "test")  # stable: by name in each split
    channels = 3 if any(fact.colour for fact in facts) else 1
    there = sorted({fact.label for fact in facts})
    if catalogue.picked and len(there) < len(catalogue.classes):
        missing = next(name for label, name in enumerate(catalogue.classes) if label not in there)
        raise UserError(f"No image of class {missing!r} in {catalogue.name} can be read; leave that class out.")
    rows: npt.NDArray[np.uint8] = np.memmap(spool, np.uint8, "r", shape=(len(facts), 3, size, size))
    step = cache.rows_in_block((channels, size, size))
    cache.write(
        path,
        (rows[order[at : at + step], :channels] for at in range(0, len(order), step)),
        (len(facts), channels, size, size),
        [there.index(facts[i].label) for i in order],
        About(
            tuple(catalogue.classes[label] for label in there),
            splits.count("train"),
            tuple(sorted([*catalogue.skipped, *skipped])),
        ),
        [facts[i]._replace(split=splits[i], label=there.index(facts[i].label)) for i in order],
    )


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 16
) -> Iterator[Result]:
    """`map` on the pool, at most `ahead` results early, so that memory stays flat."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
