"""The models that the page offers, and what a page shows in place of an exception."""

import functools
import html
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ddim.denoiser import Denoiser
from ddim.device import choose_device
from ddim.errors import UserError
from ddim.loading import SHIPPED, find, load
from ddim.train.guards import is_out_of_memory

FIRST = "mnist"  # of the models that come with ddim, the one that the page begins with
NETWORK = {"concurrency_limit": 1, "concurrency_id": "network"}  # of events that compute: one at a time has all cores
QUICK = {"concurrency_limit": None}  # of other events that can fail: gradio shows no error of an event with queue=False


class Models:
    """The runs that the user named, and the models that come with ddim. Threads may share it.

    Args:
        runs: names or paths, as `ddim.load` takes them.

    Raises:
        UserError: a run that is missing or cannot be loaded.
    """

    def __init__(self, runs: Sequence[str] = ()) -> None:
        shipped = [path.parent.name for path in sorted(SHIPPED.glob("*/config.json"))]
        shipped.sort(key=lambda name: name != FIRST)
        self.names = list(dict.fromkeys([*runs, *shipped]))
        self.device = choose_device(None)
        self._loaded: dict[str, tuple[tuple[int, int], Denoiser]] = {}
        self._lock = threading.Lock()
        for run in runs:
            self.get(run)

    def get(self, name: str) -> Denoiser:
        """Return a model, loaded again if its weights have changed. Raises `UserError` if its run has vanished."""
        if name not in self.names:
            raise UserError(f"This studio was not started with {name!r}; name it behind `ddim studio`.")
        weights = find(name) / "model.safetensors"
        try:
            version = weights.stat().st_mtime_ns, weights.stat().st_size
        except OSError as error:
            raise UserError(f"{name} holds no model: {error.strerror}; choose another one.") from error
        with self._lock:
            if name not in self._loaded or self._loaded[name][0] != version:
                self._loaded[name] = version, load(name, backend="torch").to(self.device)
            return self._loaded[name][1]

    def python(self, name: str) -> str:
        """Return the line of Python that loads a model as the page does."""
        moved = "" if self.device == "cpu" else f".to({self.device!r})"
        return f'model = ddim.load({name!r}, backend="torch"){moved}'


def sentences(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return an event handler whose errors are one sentence in the page; ours also keep their traceback, on stderr."""

    @functools.wraps(handler)
    def handled(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except UserError as error:
            raise refusal(str(error)) from None
        except gr.Error:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise refusal("Memory is full; ask for fewer images or a smaller model.") from None
            traceback.print_exc(file=sys.stderr)
            raise refusal("This failed for a reason that ddim did not expect; the terminal shows it.") from None

    return handled


def refusal(sentence: str) -> gr.Error:
    """Return the error that shows a sentence in the page, as text."""
    return gr.Error(html.escape(sentence, quote=False), title="Not possible", print_exception=False)


def labels_of(text: str, count: int, model: Denoiser) -> list[int] | None:
    """Return the class of each image from comma-separated classes, which repeat; None for an empty text.

    Raises:
        UserError: a model without classes, an entry that is no whole number, or a count that is no multiple of theirs.
    """
    if not text.strip():
        return None
    if model.classes is None:
        raise UserError("This model was trained without classes; leave the labels empty.")
    try:
        given = [int(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"Labels are whole numbers with commas between them, e.g. 3,1,4; got {text!r:.80}.") from None
    if count % len(given):
        raise UserError(
            f"{len(given)} labels and {count} images do not fit; give a number of images that is a multiple of the "
            "labels."
        )
    return given * (count // len(given))


def class_widget() -> gr.Textbox:
    """Return the widget of one class, which `label_of` reads."""
    return gr.Textbox(label="Class c", placeholder="any", info="Of all images, in ε_θ(x_t, t, c). Empty: any.")


def label_of(text: str, model: Denoiser) -> int | None:
    """Return one class, None for an empty text. Raises `UserError` as `labels_of` does."""
    labels = labels_of(text, 1, model)
    return None if labels is None else labels[0]
