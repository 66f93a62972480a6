"""From a list of files to pixels: decoded once, by several threads, directly to the disk."""

import hashlib
import os
import re
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ddim.data import arrays, cache, decode
from ddim.data.cache import Fact, Stored
from ddim.data.catalogue import Catalogue, Entry, Skipped, summary
from ddim.data.crop import check_crop
from ddim.data.decode import Unreadable
from ddim.data.download import ELSEWHERE, cache_folder
from ddim.data.images import checked_size
from ddim.errors import UserError
from ddim.files import locked, refusal, sweep
from ddim.progress import bar
from ddim.text import dimensions
from ddim.values import Values, chosen_range

KEPT_SIZE = 64  # sets of squares of one size up to this keep it
DEFAULT_SIZE = 32  # of all others, unless a size is given
HELD_OUT_ONE_IN, MAX_HELD_OUT = 20, 1000  # one image in 20 is held out, 1,000 at most

Item = TypeVar("Item")
Result = TypeVar("Result")


def stored(catalogue: Catalogue, size: Any, crop: str = "centre") -> Stored:
    """Return the decoded images of a catalogue, from the cache if they are in it.

    If several processes call this at once, one decodes and the others wait for it. Where the file system refuses
    the lock, nothing waits: `cache.write` makes whole files, so two processes at once merely do the work twice.
    Cached copies of an earlier state of the same files are removed.

    Args:
        catalogue: the files to read.
        size: see `ddim.data.images.checked_size`. None keeps the size of arrays, and that of pictures that are all
            squares of one size up to 64, and resizes all other pictures to 32 x 32.
        crop: which part of an image is kept, see `ddim.data.crop`.

    Raises:
        UserError: a size below 1 or above 1024, an unknown crop, no readable image (or none of a selected class),
            arrays that are no images or have several shapes or types, or a cache that cannot be written.
    """
    check_crop(crop)
    sides = None if size is None else checked_size(size)
    asked = str(sides[0] if sides and sides[0] == sides[1] else sides) + ("" if crop == "centre" else f" {crop}")
    source = _short(f"{catalogue.identity} {asked}")
    prefix = f"{re.sub(r'[^A-Za-z0-9]+', '_', catalogue.name)[:40]}-{source}"
    folder = cache_folder() / "images"
    path = folder / f"{prefix}-{_short(f'{decode.VERSION} {catalogue.state}')}.safetensors"
    if images := cache.read(path):
        return images
    with locked(folder / f"{prefix}.lock") as alone:
        if images := cache.read(path):  # another process was faster
            return images
        if alone:
            sweep(folder, f"{prefix}-*")
        _build(catalogue, sides, crop, path)
        for old in set(folder.glob(f"{prefix}-*.safetensors")) - {path}:
            old.unlink(missing_ok=True)
        if images := cache.read(path):
            return replace(images, fresh=True)
    raise UserError(f"{path} cannot be read back as it was written; check the disk, or {ELSEWHERE}.")


def values_of(stored: Stored, name: str, range: tuple[float, float] | None = None) -> Values | None:
    """Return how the numbers of stored arrays become x_0; None for pictures. Raises `UserError` as `chosen_range`."""
    if stored.layout:
        dtype = str(stored.pixels.dtype).removeprefix("torch.")
        return Values(chosen_range(name, dtype, *stored.levels, range), dtype, stored.layout)
    if range is not None:
        raise UserError(f"The images of {name} are pictures, whose grey levels are known; leave out the range.")
    return None


def held_out(digests: Iterable[str], labels: Iterable[int] = ()) -> set[str]:
    """Return the contents to test on: one in 20 of the distinct ones, at least 1 if there are 2, at most 1,000.

    They are the smallest of `digests`, the hashes of the files' bytes, but never the greatest of a class, so that each
    class of `labels` keeps a training image. Where every class has one image only, all may be held out. The choice
    looks random, yet depends on the files alone: copies are in the same split whatever their names, and a new file
    moves at most one other, or two if it frees the only training image of its class.
    """
    digests = list(digests)
    kept = {label: digest for digest, label in sorted(zip(digests, labels, strict=False))}  # the greatest of each
    distinct = sorted(set(digests))
    count = min(max(round(len(distinct) / HELD_OUT_ONE_IN), 1), MAX_HELD_OUT, max(len(distinct) - 1, 0))
    free = sorted(set(distinct) - set(kept.values()))
    return set((free or distinct)[:count])


def _build(catalogue: Catalogue, size: tuple[int, int] | None, crop: str, path: Path) -> None:
    Image.init()  # load Pillow's decoders before the threads start
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's about large and odd files: each file is decoded or listed
        own = size or catalogue.arrays  # then the size is known, or that of the arrays
        side = size if own else _common(_sizes(catalogue, pool))
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=path.parent) as spool:
                    facts, skipped, first = _decode_all(catalogue, side, crop, pool, spool)
                    if first is None:
                        reasons = summary([*catalogue.skipped, *skipped], 3)
                        raise UserError(
                            f"No image in {catalogue.name} can be read ({reasons}); replace the files or name "
                            "another folder."
                        )
                    actual = side if own else _common((fact.width, fact.height) for fact in facts)
                    if actual == side:
                        _write(catalogue, facts, skipped, first, spool, path)
                        return
                    side = actual  # a truncated file with a valid header gave the wrong size; decode again
            except OSError as error:
                raise refusal(path, error, ELSEWHERE) from error


def _sizes(catalogue: Catalogue, pool: ThreadPoolExecutor) -> Iterator[tuple[int, int]]:
    def measure(entry: Entry) -> tuple[int, int] | None:
        with suppress(Exception), entry.open() as file, Image.open(file, formats=decode.FORMATS) as image:
            return None if decode.is_sheet(image) else image.size
        return None  # what cannot be read is listed when it is decoded

    return (size for size in _in_order(pool, measure, catalogue.entries) if size)


def _common(sizes: Iterator[tuple[int, int]]) -> tuple[int, int]:
    """Return the side of the images if all are small squares of one size; the first other one ends the search."""
    width, height = next(sizes, (0, 0))
    same = width == height <= KEPT_SIZE and all(size == (width, height) for size in sizes)
    side = width if same and width else DEFAULT_SIZE
    return side, side


def _decode_all(
    catalogue: Catalogue, size: tuple[int, int] | None, crop: str, pool: ThreadPoolExecutor, spool: BinaryIO
) -> tuple[list[Fact], list[Skipped], npt.NDArray[Any] | None]:
    """Write the pixels of each readable image to `spool`; return the facts, the files skipped, and the first pixels.

    All have one shape and type: pictures are (3, H, W) uint8.
    """

    def read(entry: Entry) -> tuple[Fact, npt.NDArray[Any]] | Skipped:
        try:
            with entry.open() as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
                file.seek(0)
                if size is None or catalogue.arrays:
                    picture = arrays.decode(file, entry.name, size, crop, digest)
                else:
                    picture = decode.decode(file, size, crop, digest)
        except Unreadable as reason:
            return Skipped(entry.name, str(reason))
        except OSError as error:
            return Skipped(entry.name, f"cannot be opened: {error.strerror or error}")
        pixels = picture.pixels
        colour = not catalogue.arrays and bool((pixels[0] != pixels[1]).any() or (pixels[1] != pixels[2]).any())
        levels = pixels.min().item(), pixels.max().item(), bool((pixels == pixels[:, :1, :1]).all())
        return Fact(entry.name, entry.label, entry.split or "", digest, *picture[1:], colour, *levels), pixels

    facts: list[Fact] = []
    skipped: list[Skipped] = []
    first: npt.NDArray[Any] | None = None
    results = _in_order(pool, read, catalogue.entries)
    for result in bar(results, total=len(catalogue.entries), desc=f"decoding {catalogue.name}", unit="image"):
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            fact, pixels = result
            first = pixels if first is None else first
            if (pixels.shape, pixels.dtype) != (first.shape, first.dtype):
                one, other = (f"{array.dtype} of {dimensions(array.shape)}" for array in (first, pixels))
                raise UserError(
                    f"The arrays in {catalogue.name} differ: {facts[0].name} is {one}, and {fact.name} is {other}; "
                    "bring all to one type and number of channels; an image size (--image-size) resizes them."
                )
            facts.append(fact)
            spool.write(pixels.tobytes())
    spool.flush()
    return facts, skipped, first


def _write(
    catalogue: Catalogue,
    facts: Sequence[Fact],
    skipped: Sequence[Skipped],
    first: npt.NDArray[Any],
    spool: BinaryIO,
    path: Path,
) -> None:
    """Write the rows of the spool in order: training images first, and one channel if no picture has colour."""
    undecided = [fact for fact in facts if not fact.split]
    tested = held_out([fact.digest for fact in undecided], [fact.label for fact in undecided])
    splits = [fact.split or ("test" if fact.digest in tested else "train") for fact in facts]
    order = sorted(range(len(facts)), key=lambda i: splits[i] == "test")  # stable: by name in each split
    channels = first.shape[0] if catalogue.arrays or any(fact.colour for fact in facts) else 1
    labels = sorted({fact.label for fact in facts})
    if catalogue.selected and len(labels) < len(catalogue.classes):
        missing = next(name for label, name in enumerate(catalogue.classes) if label not in labels)
        raise UserError(f"No image of class {missing!r} in {catalogue.name} can be read; leave that class out.")
    rows: npt.NDArray[Any] = np.memmap(spool, first.dtype, "r", shape=(len(facts), *first.shape))
    shape = (channels, *first.shape[1:])
    step = cache.rows_in_block(shape, first.itemsize)
    layouts = {"layout": facts[0].mode} if catalogue.arrays else {}
    cache.write(
        path,
        (rows[order[at : at + step], :channels] for at in range(0, len(order), step)),
        (len(facts), *shape),
        [facts[i]._replace(split=splits[i], label=labels.index(facts[i].label)) for i in order],
        {
            "classes": [catalogue.classes[label] for label in labels],
            "train": splits.count("train"),
            "levels": [min(fact.darkest for fact in facts), max(fact.brightest for fact in facts)],
            "skipped": sorted([*catalogue.skipped, *skipped]),
            **layouts,
        },
        first.dtype.newbyteorder("<").str.replace("|", "<"),
    )


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 16
) -> Iterator[Result]:
    """`map` on the pool, at most `ahead` results early, so that memory use is constant."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
