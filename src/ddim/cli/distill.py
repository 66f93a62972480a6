"""`ddim distill`: train a student that does in a few network calls what a model does in many."""

import os
import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from ddim.cli.guidance import Weight
from ddim.cli.options import DataDir, Device, PathFlag, numbers
from ddim.cli.subjects import Subject
from ddim.errors import UserError
from ddim.files import as_table, user_path
from ddim.train import recipe as recipes
from ddim.train.recipe import Plan, Recipe

if TYPE_CHECKING:
    from ddim.distill import Distillation

UPDATES = 3000  # without any limit


@dataclass(frozen=True)
class Distill:
    """Train a student that does in 1 to 32 network calls what a model does in many.

    One student learns all the numbers of calls that --calls names. It is a run like any other: `ddim sample` draws its
    largest number of calls, --steps another one of them. Training can be interrupted and resumed, and runs on several
    processes with torchrun.

    For example:
      ddim distill runs/mnist --calls 4 --minutes 30
      ddim distill mnist --calls 1,2,4 --teacher-steps 8 --out runs/turbo
      ddim distill runs/turbo --resume
    """

    run_folder: Annotated[Positional[str], arg(metavar="RUN")]
    """The teacher: a run, or a model that comes with ddim. With --resume also the student's own folder."""
    calls: str = "4"
    """The student's numbers of network calls, from 1 to 32 each."""
    out: PathFlag | None = None
    """Folder of the student; runs/NAME-CALLS-calls if not given."""
    minutes: float | None = None
    """Minutes of training."""
    steps: int | None = None
    """Updates of the weights; 3,000 if neither this nor --minutes is given."""
    init: str | None = None
    """Start from the weights of this run, whose network the student then has; the teacher if not given."""
    loss: Literal["consistency", "trajectory"] = "consistency"
    """What the student learns: from each of its times, where the teacher's trajectory ends, and is then sampled with
    eta = max; or where each of its steps leads, and is then sampled with eta = 0."""
    guidance: Weight | None = None
    """Weight of the teacher's guidance, which the student learns, too; that of the teacher's preset if not given."""
    guidance_interval: Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH")] = None
    """Guide the teacher only at noise levels sigma / alpha above LOW and up to HIGH."""
    teacher_sampler: str | None = None
    """The teacher's sampler, deterministic, with one network call a step; its own if not given."""
    teacher_steps: int | None = None
    """The teacher's number of steps, or of network calls if it has a preset for it; its own if not given."""
    trajectories: int = 16384
    """Number of different trajectories of the teacher, at most as many as 1 GiB holds; learned again and again."""
    batch_size: int = Plan.batch_size
    """Trajectories in an update, over all processes together."""
    optimizer: Literal["adamw", "muon"] = "muon"
    """Optimizer: muon for the hidden convolutions and adamw for the rest, or adamw."""
    learning_rate: float = 2e-3
    """Learning rate of the optimizer, after 50 updates."""
    cooldown: float = 0.5
    """Share of the training, at its end, over which the learning rate falls to 0."""
    ema: tuple[float, ...] = (0.05,)
    """Widths of the averaged weights, as shares of the training; the first is saved for use."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the networks' arithmetic; auto is bf16 if the hardware has it."""
    seed: int = 0
    """Seed of the noise and of the order of the classes."""
    overwrite: bool = False
    """Replace the run in the folder, if there is one."""
    resume: bool = False
    """Continue the student from its newest checkpoint, with the settings that it was begun with."""
    data_dir: DataDir = None
    device: Device = None
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log the metrics with these services."""
    save_every: float = 60.0
    """Seconds between two checkpoints; a killed run loses at most this much."""
    backend: str = "auto"
    """What computes the teacher's network (see `ddim list backends`); auto is the fastest one that is installed and
    correct on this machine, torch the network itself."""

    def run(self) -> None:
        from ddim.config import read_config
        from ddim.progress import note
        from ddim.train.run import train

        if self.resume and self.overwrite:
            raise UserError("--resume continues a run and --overwrite replaces it; give only one of them.")
        subject = Subject.find(self.run_folder)
        if not subject.is_model:
            raise UserError(f"{self.run_folder} is a folder of images; name a run, or a model that comes with ddim.")
        is_student = "distilled" in read_config(subject.folder)
        if is_student and not self.resume:
            raise UserError(f"{self.run_folder} is a student itself; name its teacher, or continue it with --resume.")
        folder = subject.folder if is_student else self._out()
        begun = folder if self.resume and (folder / "config.json").is_file() else None
        task, taught = self._task(subject, begun)
        recipe = self._recipe(taught if self.init is None or begun else Subject.find(self.init), taught, begun)
        main = os.environ.get("RANK", "0") == "0"
        if main:
            note("ddim: The first updates take longer: they also compute the teacher's trajectories.")
        train(
            replace(recipe, predicts=task.predicts),
            folder,
            device=self.device,
            data_dir=self.data_dir,
            overwrite=self.overwrite,
            resume=self.resume,
            trackers=self.track,
            save_every=self.save_every,
            task=task,
        )
        if main:
            name, fewest = shlex.quote(str(folder)), min(task.calls)
            print(f"The student is in {folder}. Next: ddim sample {name} --steps {fewest}, or ddim evaluate {name}.")

    def _out(self) -> Path:
        if self.out is not None:
            return self.out
        return Path("runs") / f"{user_path(self.run_folder).resolve().name}-{self.calls.replace(',', '-')}-calls"

    def _task(self, subject: Subject, begun: Path | None) -> "tuple[Distillation, Subject]":
        """Return what is distilled, and the teacher: by the flags, or as the run in the folder `begun` was."""
        from ddim.backends import serve
        from ddim.config import read_config
        from ddim.device import choose_device
        from ddim.distill import Distillation
        from ddim.loading import comes_with_ddim, load

        asked: dict[str, Any] = {
            "calls": numbers("calls", self.calls, int),
            "loss": self.loss,
            "sampler": self.teacher_sampler,
            "steps": self.teacher_steps,
            "guidance": self.guidance,
            "guidance_interval": self.guidance_interval,
            "trajectories": self.trajectories,
        }
        source = self.init if begun is None else begun
        start = None if source is None else load(source, backend="torch")
        if begun is not None:
            kept = as_table(read_config(begun).get("distilled"))
            if not kept:
                raise UserError(f"{begun} was begun by `ddim train`; use ddim train {begun} --resume.")
            asked = {name: self._unchanged(name, value, kept.get(name)) for name, value in asked.items()}
            if isinstance(place := kept.get("teacher"), str):
                subject = Subject.find(place)
        place = self.run_folder if begun is None else subject.name
        if begun is None and not comes_with_ddim(subject.folder):
            place = str(subject.folder.resolve())
        device = choose_device(self.device)
        teacher = serve(subject.model.to(device), self.backend, self.precision)
        return Distillation(teacher, **asked, start=start, about={"teacher": place}), subject

    def _unchanged(self, name: str, value: Any, kept: Any) -> Any:
        """Return a setting of the run that is resumed. Raises `UserError` if a flag asks for another one."""
        flag = {"sampler": "teacher_sampler", "steps": "teacher_steps"}.get(name, name)
        given = getattr(self, flag) != next(one.default for one in fields(self) if one.name == flag)
        value = list(value) if isinstance(value, tuple) else value
        if given and value != kept:
            raise UserError(
                f"The student was begun with --{flag.replace('_', '-')} {kept}, not {value}; leave out the flag, or "
                "train into another --out."
            )
        return kept

    def _recipe(self, network: Subject, teacher: Subject, begun: Path | None) -> Recipe:
        """Return the recipe of the student's run: the teacher's data, the network of its first weights, this plan."""
        limits: dict[str, Any] = {"epochs": None, "steps": self.steps, "minutes": self.minutes}
        if begun is not None:
            recipe = recipes.of_run(begun)
            if self.steps is None and self.minutes is None:
                return recipe
            return replace(recipe, plan=replace(recipe.plan, **limits))
        if self.steps is None and self.minutes is None:
            limits["steps"] = UPDATES
        plan = Plan(
            **limits,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            warmup=50,
            cooldown=self.cooldown,
            ema=self.ema,
            label_dropout=0.0,
            precision=self.precision,
            seed=self.seed,
        )
        data = teacher.training_data("retrain it, or restore its images")
        recipe = recipes.of_run(network.folder)
        named = {"data": data["name_or_path"], "classes": data["classes"], "image_size": data["size"]}
        named |= {"crop": data["crop"], "range": data["range"]}
        return replace(recipe, **named, plan=plan)
