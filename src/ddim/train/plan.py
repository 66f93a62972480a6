"""How a network is trained: plain data, from which the command line makes its flags."""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from ddim.errors import UserError


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train. Training ends at the first limit reached: epochs, steps or minutes."""

    epochs: float | None = None
    """Passes over the images. If no limit is given 100, the paper's number, and 2,000 updates at least."""

    steps: int | None = None
    """Updates of the weights."""

    minutes: float | None = None
    """Minutes of training."""

    batch_size: int = 64
    """Images in an update, over all processes together."""

    learning_rate: float = 5e-4
    """Of AdamW, after the warm-up."""

    warmup: int = 200
    """Updates over which the learning rate rises from 0."""

    cooldown: float = 0.0
    """Share of the training, at its end, over which the learning rate falls to 0."""

    ema: tuple[float, ...] = (0.1, 0.05)
    """Widths of the averaged weights, as shares of the training; the first is saved for use. 0 is no averaging."""

    clip: float = 1.0
    """The gradient's norm is cut to this."""

    weighting: Literal["simple", "min-snr", "soft-min-snr"] = "simple"
    """How much each noise level counts in the loss; simple is the paper's, all of them alike."""

    times: Literal["uniform", "stratified"] = "uniform"
    """How a batch draws its times; stratified spreads them evenly over 1 ... T."""

    mirror: bool = True
    """Mirror half of the images, if the data set allows it (airplanes do, digits do not)."""

    label_dropout: float = 0.1
    """Share of the labels that are hidden, so that the null class is learnt too; for models with classes."""

    accumulate: int = 1
    """Parts in which each process works through its share of a batch: more parts need less memory."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the network's arithmetic; auto is bf16 where the processor is made for it. Weights stay in fp32."""

    channels_last: bool = False
    """Keep activations in the order that tensor cores want."""

    compile: bool = False
    """Compile the network first: a minute's wait, and faster steps."""

    seed: int = 0
    """Of the first weights, the order, the times and the noise."""

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("epochs", "steps", "minutes")}
        positive = {**limits, "batch_size": self.batch_size, "learning_rate": self.learning_rate, "clip": self.clip}
        positive["accumulate"] = self.accumulate
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} must be a number above 0; got {value}.")
        for name, hint in get_type_hints(Plan).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                choices = ", ".join(get_args(hint))
                raise UserError(f"{name} must be one of {choices}; got {getattr(self, name)!r}.")
        widths = self.ema if isinstance(self.ema, tuple) else ()
        if not widths or not all(width == 0 or 0.001 <= width <= 0.25 for width in widths):
            raise UserError(f"ema must be widths from 0.001 to 0.25, or 0 for no averaging; got {self.ema}.")
        if len({f"{width:g}" for width in widths}) < len(widths):
            raise UserError(f"ema names a width twice: {self.ema}; name each once.")
        if not 0 <= self.label_dropout <= 1:
            raise UserError(f"label_dropout must lie in [0, 1]; got {self.label_dropout}.")
        if not 0 <= self.cooldown <= 1:
            raise UserError(f"cooldown must lie in [0, 1]; got {self.cooldown}.")
        if self.warmup < 0 or not 0 <= self.seed < 2**63:
            raise UserError(f"warmup and seed must be from 0 to 2^63 - 1; got {self.warmup} and {self.seed}.")

    def total_steps(self, images: int) -> int | None:
        """The number of updates on a set of so many images; None if only the clock ends it."""
        if self.epochs is self.steps is self.minutes is None:
            return max(2000, -(-100 * images // self.batch_size))
        by_epochs = None if self.epochs is None else max(1, round(self.epochs * images / self.batch_size))
        return min((limit for limit in (self.steps, by_epochs) if limit is not None), default=None)

    def pace(self, step: int, left: float) -> float:
        """Share of the learning rate at an update: it rises, stays, and falls (arXiv 2405.18392).

        Args:
            step: which update, from 1 on.
            left: of the training before this update, in (0, 1].
        """
        rise, fall = step / max(1, self.warmup), left / self.cooldown if self.cooldown else 1.0
        return min(1.0, rise, fall)
