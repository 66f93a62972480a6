"""Files out of a .tar.gz, read in memory: nothing that an archive holds is ever written to the disk."""

import gzip
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ddim.errors import UserError

LARGEST = 1 << 26  # bytes of one member, twice the largest official one: no small archive fills the memory


def read(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """The contents of the wanted members.

    Args:
        path: a gzipped tar archive.
        wanted: file names without their folders.

    Returns:
        Name -> content, for those that are there.

    Raises:
        UserError: the archive cannot be read or is damaged, or a member points outside of it. That could
            not do harm here, but such an archive is not what it claims to be.
    """
    found = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if reason := _suspicion(member):
                    raise UserError(f"{path} was refused: its member {member.name!r} {reason}; replace it.")
                name = PurePosixPath(member.name).name
                if name in wanted and (content := archive.extractfile(member)):
                    found[name] = content.read()
            while stream.read(1 << 20):  # gzip's own checksum stands at the very end
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"Could not read {path}: {error}; remove it and download it again.") from error
    return found


def _suspicion(member: tarfile.TarInfo) -> str | None:
    """Why a member has no place in a data set, or None."""
    if not (member.isfile() or member.isdir()):
        return "is a link or a device"
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        return "points outside of the archive"
    if member.size > LARGEST:
        return f"has {member.size} bytes, more than any batch of images"
    return None
