"""Data sets of the Hugging Face hub, or in its formats on the disk, through the library `datasets`."""

import io
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ddim.data.catalogue import Catalogue, Entry, Skipped, in_order
from ddim.data.decode import Unreadable
from ddim.errors import UserError

PREFIX = "hf:"
TEST_NAMES = ("test", "validation", "valid", "val")  # the first that is there
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(#[\w.-]+)?", re.ASCII)


def plausible(name: str) -> bool:
    """Whether a name has the form of a hub id, `user/name`."""
    return _ID.fullmatch(name) is not None


def scan(name: str) -> Catalogue:
    """List the images of a data set: those of its image column, with the classes of its label column.

    The splits are its `train` and `test` (or `validation`); with one of them alone, or splits of other names,
    `ddim.data.holdout` decides. A data set that comes as a program is refused: nothing of a data set is ever run.

    Args:
        name: an id, `user/name` or `name`, or a local folder, `./folder`; `#config` after it chooses one of
            several configurations.

    Raises:
        UserError: `datasets` is not installed, there is no such data set, or it has no column of images.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"There is no folder {name}, and to look on the Hugging Face hub ddim needs one more library; correct "
            'the path, or pip install "ddim[hub]".'
        ) from error
    where, _, config = name.partition("#")
    options = (
        {"trust_remote_code": False} if int(datasets.__version__.split(".")[0]) < 4 else {}
    )  # 4 knows no other way
    try:
        splits: dict[str, Any] = dict(datasets.load_dataset(where, config or None, **options))
    except Exception as error:  # no network, no such id, a config to choose, a file that is no data set
        words = " ".join(str(error).split())[:300].rstrip(". ")
        raise UserError(
            f"The data set {name} cannot be loaded ({type(error).__name__}: {words}); check the name "
            '(a path, "user/name" or "user/name#config") and the network.'
        ) from error
    chosen = _splits(splits)
    image, label = _columns(name, splits[next(iter(chosen))].features)
    rows: list[tuple[str, str | None, Any, Any]] = []  # name, split, class, how to open
    skipped: list[Skipped] = []
    for split, role in chosen.items():
        data = splits[split].cast_column(image, datasets.Image(decode=False))
        labels = _class_names(data, label, name)
        for i, class_name in enumerate(labels):
            row = f"{split}/{i}"
            if class_name is None:
                skipped.append(Skipped(row, "has no label"))
            else:
                rows.append((row, role, class_name, partial(_open, data, image, i)))
    there = {class_name for _, _, class_name, _ in rows}
    feature = splits[next(iter(chosen))].features[label] if label else None
    official = getattr(feature, "names", None)
    classes = [one for one in official if one in there] if official else in_order(there)
    index = {class_name: at for at, class_name in enumerate(classes)}
    return Catalogue(
        name=Path(where).name or where,
        classes=tuple(classes),
        entries=[Entry(row, index[class_name], role, opens) for row, role, class_name, opens in rows],
        identity=f"hub {str(Path(where).resolve()) if Path(where).exists() else where!a} {config}",
        state=" ".join(f"{split} {splits[split]._fingerprint}" for split in chosen),
        skipped=tuple(skipped),
    )


def _splits(there: dict[str, Any]) -> dict[str, str | None]:
    """Split -> its role; None leaves it to the rule."""
    test = next((name for name in TEST_NAMES if name in there), None)
    if "train" in there:
        return {"train": "train", test: "test"} if test else {"train": None}
    return dict.fromkeys(there, None)


def _columns(name: str, features: Any) -> tuple[str, str | None]:
    """The names of the column of images and of that of labels."""
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    if not images:
        raise UserError(f"{name} has no column of images (it has {', '.join(kinds)}); choose a data set of images.")
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    labels += [column for column in ("label", "labels", "class") if kinds.get(column) == "Value"]
    image = next((column for column in ("image", "img") if column in images), images[0])
    return image, next((column for column in ("label", *labels) if column in labels), None)


def _class_names(data: Any, label: str | None, name: str) -> Sequence[str | None]:
    """The class of each row; None where it is not known, as in the tests of some competitions."""
    if label is None:
        return [Path(name).name.partition("#")[0]] * len(data)
    values = data[label][:]
    names = getattr(data.features[label], "names", None)
    if names is None:
        return [None if value is None else str(value) for value in values]
    return [None if value is None or value < 0 else names[value] for value in values]


def _open(data: Any, column: str, i: int) -> io.BufferedReader | io.BytesIO:
    image = data[i][column]
    if image is None:
        raise Unreadable("holds no image")
    if image["bytes"] is not None:
        return io.BytesIO(image["bytes"])
    return Path(image["path"]).open("rb")
