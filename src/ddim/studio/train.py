"""The tab *Train*: start, stop and resume a training, and watch it."""

import functools
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import gradio as gr
from filelock import FileLock, Timeout

from ddim.errors import UserError, number
from ddim.files import user_path
from ddim.studio.models import QUICK, Models, sentences
from ddim.studio.views import SHOW_FRAME, paragraph
from ddim.studio.watch import findings, losses, samples
from ddim.text import printable

EVERY = 3.0  # seconds between two looks at a run
PATIENCE = 60.0  # seconds for a training to save, when the studio closes
RUNS = Path("runs")


@dataclass(frozen=True)
class Training:
    """A process `ddim train`, and the file that holds what it says."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def last_line(self) -> str:
        """The last line that it wrote."""
        size = self.output.seek(0, 2)
        self.output.seek(max(0, size - 4000))
        lines = self.output.read().decode(errors="replace").replace("\r", "\n").split("\n")
        return printable(next((line.strip() for line in reversed(lines) if line.strip()), ""))


class Trainings:
    """The trainings that this studio has started, by folder. Threads share it: one for each event of a page."""

    def __init__(self) -> None:
        self._known: dict[Path, Training] = {}
        self._lock = threading.Lock()

    def start(self, what: str, out: str, minutes: float | None, image_size: float | None, resume: bool) -> Path:
        """Start `ddim train` in a process of its own, and return the folder of the run.

        Args:
            what: a recipe, a data set or a folder of images; ignored with `resume`.
            out: the folder of the run.
            minutes, image_size: as for `ddim train`; None or 0 is the default there.
            resume: whether to continue the run in the folder.

        Raises:
            UserError: an empty or odd name, or a folder in which another process trains.
        """
        folder = user_path(out.strip()).resolve()
        words = command(what.strip(), folder, minutes, image_size, resume)
        if resume and not (folder / "config.json").is_file():
            raise UserError(f"There is no run at {folder}; start one.")
        with self._lock:
            if self.running(folder) or locked(folder):
                raise UserError(f"A training runs in {folder} already; watch it here, or choose another folder.")
            output = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives this function
            process = subprocess.Popen([sys.executable, "-m", *words], stdout=output, stderr=subprocess.STDOUT)
            if folder in self._known:
                self._known[folder].output.close()
            self._known[folder] = Training(process, output)
        return folder

    def stop(self, out: str) -> None:
        """Interrupt a training, which saves what it has. Raises `UserError` if this studio did not start it."""
        folder = user_path(out.strip()).resolve()
        if not self.running(folder):
            where = "was started elsewhere; stop it there" if locked(folder) else "does not run"
            raise UserError(f"The training in {folder} {where}.")
        self._known[folder].process.terminate()

    def running(self, folder: Path) -> bool:
        """Return whether a training of this studio runs in a folder."""
        return folder in self._known and self._known[folder].process.poll() is None

    def state(self, folder: Path) -> str:
        """Return what happens in a folder, as one sentence."""
        if self.running(folder):
            return f"Training in {folder}."
        if locked(folder):
            return f"Another process trains in {folder}."
        if folder in self._known and self._known[folder].process.returncode not in (0, 130, -signal.SIGTERM):
            return self._known[folder].last_line.removeprefix("ddim: ")
        if not folder.is_dir():
            return f"{folder} is not there, or has vanished; choose another run."
        if not (folder / "config.json").is_file():
            return f"No training runs in {folder}, and it holds no run; start one."
        return f"No training runs in {folder}; it can be resumed."

    def close(self) -> None:
        """Interrupt all trainings, and wait until they are saved."""
        running = [one.process for folder, one in self._known.items() if self.running(folder)]
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        for one in self._known.values():
            one.output.close()


def command(what: str, folder: Path, minutes: float | None, image_size: float | None, resume: bool) -> list[str]:
    """Return the words of `ddim train`. Raises `UserError` for a name that would be read as a flag, or no number."""
    if not what and not resume:
        raise UserError("Name what to train on: a recipe or data set such as digits, or a folder of images.")
    if what.startswith("-"):
        raise UserError(f"{what!r} reads as a flag; write a folder of that name as ./{what}.")
    words = ["ddim", "train", *([str(folder), "--resume"] if resume else [what, f"--out={folder}"])]
    if minutes:
        words.append(f"--minutes={number('The minutes', minutes, float, 0.01, 100_000):g}")
    if image_size and not resume:
        words.append(f"--image-size={number('The image size', image_size, int, 1, 1024)}")
    return words


def locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a run folder, see `ddim.files.exclusive`."""
    path = folder / ".lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def runs(given: list[str]) -> list[str]:
    """Return the folders of runs to choose from: those given, and those in `runs/`."""
    there = [path.parent for path in RUNS.glob("*/metrics.jsonl")]
    named = [user_path(run) for run in given if (user_path(run) / "metrics.jsonl").is_file()]
    return [str(path) for path in dict.fromkeys([*named, *sorted(there)])]


class Watched(NamedTuple):
    """What a page shows of a run, as HTML, and the number of frames in its samples."""

    state: str
    losses: str = ""
    findings: str = ""
    samples: str = ""
    frames: int = 0


def watch(trainings: Trainings, out: str) -> Watched:
    """Return what a page shows of the run in a folder."""
    if not out.strip():
        return Watched(paragraph("Choose a run to watch, or start one."))
    folder = user_path(out.strip()).resolve()
    state = paragraph(trainings.state(folder))
    return Watched(state, losses(folder), findings(folder), *samples(folder)) if folder.is_dir() else Watched(state)


def tab(models: Models, trainings: Trainings, shown: gr.Tab) -> None:
    """Build the tab; it looks at the run from when the tab is `shown`."""
    there = runs(models.names)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            run = gr.Dropdown(
                there,
                value=there[0] if there else "",
                allow_custom_value=True,
                label="Run",
                info="Folder with the weights θ, the metrics and the samples: one to watch, or a new one to train in.",
            )
            what = gr.Textbox("digits", label="Images x_0", info="A recipe, a data set, or a folder of images.")
            minutes = gr.Number(
                5,
                label="Minutes",
                info="Of training in all, on ‖ε - ε_θ(x_t, t)‖² (DDIM, Eq. 5 with γ = 1). 0: the recipe's.",
            )
            size = gr.Number(
                0, precision=0, label="Image size", info="Pixels a side; 0 is the images' own, or the recipe's."
            )
            with gr.Row():
                start = gr.Button("Start", variant="primary")
                resume = gr.Button("Resume")
                stop = gr.Button("Stop", variant="stop")
        with gr.Column(scale=3, min_width=280):
            state = gr.HTML(elem_classes="ddim", elem_id="train-state")
            curves = gr.HTML(elem_classes="ddim", elem_id="train-curves")
            at = gr.Slider(0, 1, 0, step=1, label="Samples along the way", info="From the first weights to the latest.")
            along = gr.HTML(elem_classes="ddim", elem_id="train-samples")
            words = gr.HTML(elem_classes="ddim", elem_id="train-findings")
    with gr.Accordion("The same on the command line", open=False):
        line = gr.Code(language="shell", label="Command line", interactive=False)

    def begin(out: str, what: str, minutes: float | None, size: float | None, again: bool) -> str:
        folder = trainings.start(what or "", out or "", minutes, size, again)
        return shlex.join(command((what or "").strip(), folder, minutes, size, again))

    def look(out: str, seen: tuple[str, int]) -> tuple[Any, ...]:
        watched = watch(trainings, out or "")
        shown, last = watched[:3], max(watched.frames - 1, 0)
        shows = out, hash(watched.samples)
        if seen == shows:  # the slider stays where the user has put it
            return *shown, gr.skip(), gr.skip(), seen
        return *shown, gr.update(maximum=max(last, 1), value=last), watched.samples, shows

    seen = gr.State(("", 0))
    views, quietly = [state, curves, words, at, along, seen], {"queue": False, "show_progress": "hidden"}
    timer = gr.Timer(EVERY, active=False)
    shown.select(lambda: gr.update(active=True), None, timer, **quietly)
    for event in (shown.select, run.change, timer.tick):
        event(sentences(look), [run, seen], views, **quietly)
    for button, again in ((start, False), (resume, True)):
        begun = button.click(
            sentences(functools.partial(begin, again=again)), [run, what, minutes, size], line, **QUICK
        )
        begun.then(sentences(look), [run, seen], views, **quietly)
    stop.click(sentences(lambda out: trainings.stop(out or "")), run, None, **QUICK)
    at.change(None, at, None, js=SHOW_FRAME % "train-samples")
