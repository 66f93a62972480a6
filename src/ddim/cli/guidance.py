"""The flags of guidance, which several commands share, and the weak model that they name."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from ddim.errors import UserError, number

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser
    from ddim.guidance import Interval
    from ddim.presets import Preset

MOST_GUIDANCE = 1000  # far larger weights overflow in the network's arithmetic


def _weight(name: str, value: float) -> float:
    allowed = f"a number from -{MOST_GUIDANCE} to {MOST_GUIDANCE}, 1 for none"
    return number(name, value, float, -MOST_GUIDANCE, MOST_GUIDANCE, allowed)


Weight = Annotated[
    float,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda words: _weight("guidance", float(words[0])),
        is_instance=lambda value: isinstance(value, float),
        str_from_instance=lambda weight: [str(weight)],
    ),
]
Guidance = Annotated[
    Weight | None,
    arg(
        help=f"Weight of classifier-free guidance, at most {MOST_GUIDANCE}; 1 turns guidance off. If not given, that "
        "of the preset in use, or none."
    ),
]


@dataclass(frozen=True)
class GuidanceFlags:
    """How the model is guided: by the null class (--guidance), or by an earlier checkpoint (--autoguide, --weight)."""

    guidance: Guidance = None
    guidance_interval: Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH")] = None
    """Guide only at noise levels sigma / alpha above LOW and up to HIGH; a HIGH of inf has no upper end."""
    autoguide: Annotated[int | None, arg(metavar="STEP")] = None
    """Guide by the weights saved at this training step, an earlier checkpoint of the same run; needs --weight."""
    weight: float | None = None
    """Weight of --autoguide; 1 turns it off."""

    def check(self) -> None:
        """Raise `UserError` for flags that contradict each other, an empty interval or an impossible weight."""
        from ddim.guidance import check_interval

        if self.autoguide is not None and not self._off:
            raise UserError("--guidance leads away from the null class and --autoguide from a weak model; give one.")
        if (self.autoguide is None) != (self.weight is None):
            given, missing = ("weight", "autoguide STEP") if self.autoguide is None else ("autoguide", "weight W")
            raise UserError(f"--{given} needs --{missing} beside it, e.g. --autoguide 1000 --weight 1.5.")
        if self.weight is not None:
            _weight("weight", self.weight)
        if self.guidance_interval is not None:
            check_interval(self.guidance_interval)
            if self._off and self.autoguide is None:
                raise UserError("--guidance-interval limits --guidance or --autoguide; give one of them, too.")

    @property
    def _off(self) -> bool:
        return self.guidance is None or self.guidance == 1

    @property
    def given(self) -> bool:
        """Whether a flag takes the place of the preset's own guidance."""
        return self.guidance is not None or self.autoguide is not None

    def chosen(self, preset: "Preset | None") -> "tuple[float, Interval | None]":
        """Return the weight and the interval of classifier-free guidance in fact used."""
        from ddim.presets import guidance_of

        return guidance_of(preset, self.guidance, self.guidance_interval, self.autoguide)

    def options(self) -> dict[str, Any]:
        """Return the options `guidance` and `guidance_interval` of `ddim.Denoiser.sample`."""
        weight = self.guidance if self.weight is None else self.weight
        return {"guidance": weight, "guidance_interval": self.guidance_interval}

    def weak(self, folder: Path, checkpoint: int | None = None, raw: bool = False) -> "Denoiser | None":
        """Return the weak model of --autoguide, on the CPU; None without the flag.

        Args:
            folder: of the run.
            checkpoint, raw: of the model to guide, see `ddim.load`.

        Raises:
            UserError: what `check` refuses, a folder without checkpoints, or a step that is not an earlier one.
        """
        from ddim.loading import load
        from ddim.train import checkpoints

        self.check()
        if self.autoguide is None:
            return None
        steps = checkpoints.steps(folder)
        if not steps:
            raise UserError(f"{folder} has no checkpoints, one of which --autoguide needs; name a run of your own.")
        model_step = steps[-1] if checkpoint is None else checkpoint
        earlier = [step for step in steps if step < model_step]
        if self.autoguide not in earlier:
            raise UserError(
                f"--autoguide takes a checkpoint before that of the model, step {model_step}; {folder} has "
                f"{', '.join(map(str, earlier)) or 'none'}, and not {self.autoguide}."
            )
        return load(folder, checkpoint=self.autoguide, raw=raw, backend="torch")

    def settings(self, folder: Path, preset: "Preset | None" = None) -> dict[str, Any]:
        """Return the guidance in fact used, for the files: that of the flags, or the preset's own."""
        from ddim.model_io import fingerprint
        from ddim.train.checkpoints import path_of

        weight, interval = self.chosen(preset)
        found: dict[str, Any] = {"guidance": weight}
        if interval is not None:
            found["guidance_interval"] = [end if math.isfinite(end) else "inf" for end in interval]
        if self.autoguide is not None:
            weights = fingerprint(path_of(folder, self.autoguide))
            found |= {"autoguide": self.autoguide, "weight": self.weight, "weak_weights": weights}
        return found

    def describe(self) -> str:
        """Return what the flags say as text, e.g. "guidance 2 at sigma / alpha from 0.3 to 5"; "" without guidance."""
        from ddim.guidance import interval_in_words

        words = "" if self._off else f"guidance {self.guidance:g}"
        if self.autoguide is not None:
            words = f"autoguidance by step {self.autoguide}, weight {self.weight:g}"
        return f"{words}{interval_in_words(self.guidance_interval)}"
