"""Where a data set may lie: the folder asked for, else $DDIM_DATA, else a download."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ddim.errors import UserError

Found = TypeVar("Found")


def locate(find: Callable[[Path], Found | None], wanted: str, data_dir: str | Path | None) -> Found | None:
    """What `find` finds in `data_dir`, or, if that is None, in the folder that $DDIM_DATA names.

    Args:
        find: looks into a folder, and gives None if the data set is not there.
        wanted: the files that `find` looks for, in words, for the error message.
        data_dir: the user's own choice. Nothing is downloaded behind it.

    Returns:
        None only without `data_dir`: then the data set is to be downloaded.

    Raises:
        UserError: `data_dir` is missing or lacks the files, or a folder cannot be read.
    """
    named = data_dir if data_dir is not None else os.environ.get("DDIM_DATA") or None
    if named is None:
        return None
    folder = Path(named).expanduser()
    try:
        found = find(folder)
    except OSError as error:
        raise UserError(
            f"Could not read {error.filename or folder}: {error.strerror or error}; "
            "allow reading it or choose another folder."
        ) from error
    if found is None and data_dir is not None:
        problem = "does not hold the data set" if folder.is_dir() else "is not a folder"
        raise UserError(
            f"{folder} {problem}: looked there for {wanted}; "
            "choose the folder that has them, or name none to have them downloaded."
        )
    return found
