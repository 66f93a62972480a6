"""Data sets of the Hugging Face hub, or in its formats on the disk, read by the library `datasets`."""

import re
from collections.abc import Sequence
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

from ddim.data.catalogue import Catalogue, Entry, Skipped, sorted_classes
from ddim.data.decode import Unreadable
from ddim.errors import UserError
from ddim.text import one_line

PREFIX = "hf:"
TEST_NAMES = ("test", "validation", "valid", "val")  # the first that exists is used
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(#[\w.-]+)?", re.ASCII)


def plausible(name: str) -> bool:
    """Return whether a name has the form of a hub id, `user/name`."""
    return _ID.fullmatch(name) is not None


def scan(name: str) -> Catalogue:
    """List the images of a data set: those of its image column, with the classes of its label column.

    The splits are its `train` and `test` (or `validation`); with only one of them, or splits of other names,
    `ddim.data.build.held_out` decides. A data set with a loading script is refused: its code is never run.

    Args:
        name: an id, `user/name` or `name`, or a local folder, `./folder`; a suffix `#config` selects one of
            several configurations.

    Raises:
        UserError: `datasets` is not installed, the data set does not exist, or it has no column of images.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"There is no folder {name}, and to look on the Hugging Face hub ddim needs one more library; correct "
            'the path, or pip install "ddim[hub]".'
        ) from error
    where, _, config = name.partition("#")
    major = int(datasets.__version__.split(".")[0])
    options = {"trust_remote_code": False} if major < 4 else {}  # from version 4 on, never true
    try:
        splits: dict[str, Any] = dict(datasets.load_dataset(where, config or None, **options))
    except Exception as error:  # no network, no such id, several configurations, not a data set
        reason = one_line(error, 300).rstrip(". ")
        raise UserError(
            f"The data set {name} cannot be loaded ({type(error).__name__}: {reason}); check the name "
            '(a path, "user/name" or "user/name#config"), the network, and the space that HF_HOME has.'
        ) from error
    roles: dict[str, str | None] = dict.fromkeys(splits)  # None: `held_out` decides
    if "train" in splits:
        test = next((name for name in TEST_NAMES if name in splits), None)
        roles = {"train": "train", test: "test"} if test else {"train": None}
    image, label = _columns(name, splits[next(iter(roles))].features)
    rows: list[tuple[str, str | None, str, Any]] = []  # name, split, class, function that opens the file
    skipped: list[Skipped] = []
    for split, role in roles.items():
        data = splits[split].cast_column(image, datasets.Image(decode=False))
        for i, class_name in enumerate(_class_names(data, label, name)):
            if class_name is None:
                skipped.append(Skipped(f"{split}/{i}", "has no label"))
            else:
                rows.append((f"{split}/{i}", role, class_name, partial(_open, data, image, i)))
    present = {class_name for _, _, class_name, _ in rows}
    feature = splits[next(iter(roles))].features[label] if label else None
    official = getattr(feature, "names", None)
    classes = [name for name in official if name in present] if official else sorted_classes(present)
    index = {class_name: i for i, class_name in enumerate(classes)}
    return Catalogue(
        name=Path(where).name or where,
        classes=tuple(classes),
        entries=[Entry(row, index[class_name], role, opens) for row, role, class_name, opens in rows],
        identity=f"hub {str(Path(where).resolve()) if Path(where).exists() else where!a} {config}",
        state=" ".join(f"{split} {splits[split]._fingerprint}" for split in roles),
        skipped=tuple(skipped),
    )


def _columns(name: str, features: Any) -> tuple[str, str | None]:
    """Return the name of the column of images, and of the column of labels if there is one."""
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    if not images:
        raise UserError(f"{name} has no column of images (it has {', '.join(kinds)}); choose a data set of images.")
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    labels += [column for column in ("label", "labels", "class") if kinds.get(column) == "Value"]
    image = next((column for column in ("image", "img") if column in images), images[0])
    return image, next((column for column in ("label", *labels) if column in labels), None)


def _class_names(data: Any, label: str | None, name: str) -> Sequence[str | None]:
    """Return the class of each row; None where it is unknown, as in the test splits of competitions."""
    if label is None:
        return [Path(name).name.partition("#")[0]] * len(data)
    values = data[label][:]
    names = getattr(data.features[label], "names", None)
    if names is None:
        return [None if value is None else str(value) for value in values]
    return [None if value is None or not 0 <= value < len(names) else names[value] for value in values]


def _open(data: Any, column: str, i: int) -> BufferedReader | BytesIO:
    image = data[i][column]
    if image is None:
        raise Unreadable("holds no image")
    if image["bytes"] is not None:
        return BytesIO(image["bytes"])
    if not Path(image["path"]).is_file():  # a device may have no end
        raise Unreadable(f"is at {image['path']}, which is not a file")
    return Path(image["path"]).open("rb")
