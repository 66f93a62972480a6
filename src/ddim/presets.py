"""Presets: the ways to sample a model with so many network calls that `ddim.tune` found, kept in its config."""

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ddim import samplers
from ddim.device import uncompiled
from ddim.errors import Notice, UserError, number
from ddim.guidance import EVERYWHERE, Interval, check_interval, contains, in_words
from ddim.level import Level, Prediction
from ddim.samplers import Corrected, Sampler, trajectory
from ddim.schedule import LONGEST as LATEST
from ddim.schedule import Schedule
from ddim.text import counted
from ddim.timesteps import levels, timesteps

LONGEST = 1000  # network calls of a preset, and its times
STRONGEST = 1000  # weight of guidance


@dataclass(frozen=True, kw_only=True)
class Method:
    """A sampler with its options, its times, its corrections and its guidance.

    Attributes:
        sampler: a name from `ddim.samplers.names()`.
        times: the times that it visits, noisiest first, without the final 0.
        options: of the sampler, see `ddim.samplers.get`.
        shift, corrections: see `ddim.samplers.Corrected`.
        guidance, guidance_interval: see `Denoiser.sample`; an interval has a finite upper end.
        found: how it was found, in words.

    Raises:
        UserError: an unknown name or option, no times, times that do not descend to above 0, or a number out of range.
    """

    sampler: str
    times: tuple[float, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    shift: float = 0.0
    corrections: tuple[tuple[float, ...], ...] = ()
    guidance: float = 1.0
    guidance_interval: Interval | None = None
    found: str = ""

    def __post_init__(self) -> None:
        times = tuple(number("A time", t, float, 0, LATEST) for t in self.times)
        if not times or any(t <= s for t, s in zip(times, (*times[1:], 0.0), strict=True)):
            raise UserError(f"The times of a preset must descend to above 0; got {list(times)[:6]}.")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "corrections", tuple(tuple(step) for step in self.corrections))
        if self.corrections and len(self.corrections) != len(times):
            raise UserError(
                f"A preset of {len(times)} steps has corrections for each or for none; got {len(self.corrections)}."
            )
        weight = number("The guidance of a preset", self.guidance, float, -STRONGEST, STRONGEST)
        object.__setattr__(self, "guidance", weight)
        if self.guidance_interval is not None:
            low, high = check_interval(self.guidance_interval)
            high = number("The upper end of a preset's guidance interval", high, float)
            object.__setattr__(self, "guidance_interval", (low, high))
        self.create()

    def create(self) -> Sampler:
        """Return a new sampler."""
        base = samplers.get(self.sampler, **self.options)
        return Corrected(base, self.shift, self.corrections) if self.shift or self.corrections else base

    def resolve(self, schedule: Schedule) -> tuple[Sampler, list[Level]]:
        """Return the sampler and the levels it visits. Raises `UserError` for times above the schedule's T."""
        return self.create(), levels(schedule, timesteps(schedule, None, self.times))

    def network_calls(self, schedule: Schedule) -> tuple[int, int]:
        """Return how many network calls are made for an image without guidance, and how many with it.

        A guided call evaluates the network twice.
        """
        sampler, visited = self.resolve(schedule)
        if self.guidance == 1:
            return sampler.calls(visited), 0
        interval = EVERYWHERE if self.guidance_interval is None else self.guidance_interval
        inside: list[bool] = []

        def asked(x: Tensor, at: Level) -> Prediction:
            inside.append(bool(contains(interval, at)))
            return Prediction(x, x)

        for _ in trajectory(sampler, asked, torch.zeros(1, 1), visited, torch.zeros_like, schedule):
            pass
        return inside.count(False), inside.count(True)

    def evaluations(self, schedule: Schedule) -> int:
        """Return how often the network is evaluated for an image."""
        plain, guided = self.network_calls(schedule)
        return plain + 2 * guided

    def text(self, guided: bool = True) -> str:
        """Return the method as text, for reports; `guided` tells whether its own guidance is used."""
        if self.guidance == 1:
            return self.found
        weight = f", {in_words(self.guidance, self.guidance_interval)}" if guided else ""
        return f"{self.found}, {counted(len(self.times), 'step')}{weight}"


@dataclass(frozen=True, kw_only=True)
class Preset(Method):
    """The method to sample one model with so many network calls, and what tuning measured of it.

    Attributes:
        calls: number of network calls for an image, in which a guided one counts twice: the network is evaluated so
            often. Guidance that a request names in place of the preset's own changes that number.
        weights: `digest` of the network that it was tuned for.
        distance: Fréchet distance of its samples.
        plain: that of the best solver on a named spacing, from the same noise.
        ddim: that of DDIM on its best spacing, from the same noise.
        best_plain, best_ddim: the names of these solvers and spacings.
        extractor, reference: what the distances were measured in, and from what.
        count: number of samples that they were measured with.

    Raises:
        UserError: what `Method` refuses, or a number or a digest that is none.
    """

    calls: int
    weights: str
    distance: float
    plain: float
    ddim: float
    best_plain: str
    extractor: str
    reference: str
    count: int
    best_ddim: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        number("The number of network calls of a preset", self.calls, int, 1, LONGEST)
        for name in ("distance", "plain", "ddim"):
            number(f"The {name} of a preset", getattr(self, name), float, 0)
        number("The count of a preset", self.count, int, 1)
        if not isinstance(self.weights, str) or not re.fullmatch("[0-9a-f]{64}", self.weights):
            raise UserError(f"The weights of a preset are a SHA-256; got {self.weights!r:.80}. Tune the model again.")

    @property
    def tuned(self) -> bool:
        """Whether it is more than a solver on a named spacing."""
        return self.found != self.best_plain or self.guidance != 1

    @property
    def measure(self) -> tuple[str, str, int]:
        """What two presets must share for their distances to be comparable."""
        return self.extractor, self.reference, self.count

    def check(self, schedule: Schedule, classes: int | None) -> None:
        """Raise `UserError` if the preset does not fit a model, or does not make its number of network calls."""
        made = self.evaluations(schedule)
        if made != self.calls:
            raise UserError(f"The preset of {self.calls} network calls makes {made}; tune the model again.")
        if self.guidance != 1 and classes is None:
            raise UserError(
                f"The preset of {self.calls} network calls has a guidance of {self.guidance:g}, and the model has no "
                "classes; tune the model again."
            )

    def describe(self, guided: bool = True) -> str:
        """Return the preset as text, see `Method.text`."""
        return f"preset of {self.calls} network calls ({self.text(guided)})"

    def settings(self) -> dict[str, Any]:
        """Return the method by the names of `ddim.sampling.Sampling.settings`; "preset" has what these lack.

        The guidance is not among them: see `guidance_of` for that of a request.
        """
        return {
            "steps": len(self.times),
            "sampler": self.sampler,
            "spacing": list(self.times),
            "eta": getattr(samplers.get(self.sampler, **self.options), "eta", None),
            "preset": {
                "calls": self.calls,
                "options": dict(self.options),
                "shift": self.shift,
                "corrections": [list(step) for step in self.corrections],
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the preset for `config.json`; `Preset(**entry)` is its inverse."""
        return asdict(self)


def guidance_of(
    preset: Method | None, guidance: float | None, interval: Interval | None, weak: object = None
) -> tuple[float, Interval | None]:
    """Return the weight and the interval of guidance of a request: the preset's own, if the request names none."""
    if preset is not None and guidance is None and interval is None and weak is None:
        return preset.guidance, preset.guidance_interval
    return 1.0 if guidance is None else guidance, interval


def digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's weights and buffers, by name, shape and value in float32."""
    found = hashlib.sha256()
    for name, tensor in sorted(uncompiled(network).state_dict().items()):
        value = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
        found.update(f"{name} {tuple(value.shape)} ".encode())
        found.update(value.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def find(presets: Sequence[Preset], calls: int, network: nn.Module) -> Preset | None:
    """Return the preset of so many calls that was tuned for a network's weights, None if there is none.

    A `Notice` names one that was tuned for other weights.
    """
    named = [preset for preset in presets if preset.calls == calls]
    if not named:
        return None
    weights = digest(network)
    fitting = [preset for preset in named if preset.weights == weights]
    if not fitting:
        warnings.warn(
            f"The preset of {calls} network calls is stale: it was tuned for other weights, and is not used; tune "
            "this model again (`ddim tune`), or name a sampler.",
            Notice,
            stacklevel=1,  # one place for all callers: Python then says it once
        )
    return fitting[-1] if fitting else None
