"""Whether samples are copies of training images."""

from dataclasses import asdict, dataclass
from typing import Any

from ddim.denoiser import Denoiser
from ddim.evaluate import copies
from ddim.experiments import base
from ddim.experiments.base import Claim, Count, Drawing, Experiment, NonNegative, Positive, Samples, Setup, register
from ddim.files import read_tensors
from ddim.plots.canvas import BLUE, FAINT, MARGIN, WIDTH, Canvas, mosaic, separator
from ddim.plots.numbers import Estimate

COUNT = 1000  # samples at most
CHANCE = 0.05  # a p-value below it is not due to chance
COLUMNS, MOST = 3, 12  # of the figure; MOST: samples shown
GAP, BETWEEN, TOP = 24, 80, 110  # pixels: GAP from a sample to its neighbours, BETWEEN such columns


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """See `ddim.evaluate.Memorisation` for the fields."""

    count: Positive
    train_count: Positive
    held_out_count: Positive
    flagged: Count
    expected: NonNegative
    p_value: NonNegative
    nearer: NonNegative
    nearer_low: NonNegative
    nearer_high: NonNegative
    level: float = 0.0
    suspects: tuple[dict[str, Any], ...] = ()


@register("memorisation")
class Memorisation(Experiment[Result]):
    """Look for copies among the samples of the evaluation, and keep the most suspicious ones."""

    title = "Copies of training images"
    reference = "not in the paper"
    place = 120
    share = 0.1
    needs = ("evaluation",)
    tensors = {"samples": 4, "neighbours": 5}  # (K, C, H, W) and (K, 3, C, H, W)
    result_type = Result
    caption = (
        "The most suspicious samples, each next to its nearest training images. A sample is suspicious if it is "
        "close to one training image alone: if the distance to it, divided by the mean distance to the next ones "
        "(after arXiv 2301.13188, section 5.1), is lower than for almost all held-out images. Samples of a model "
        "that memorises its training images also lie nearer to the training set than held-out images do (arXiv "
        "2004.05675)."
    )

    def calls(self, model: Denoiser) -> float:
        return 0.0  # it uses the samples of the evaluation

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        images = read_tensors(setup.folder / "samples/evaluation.safetensors")["images"][:COUNT]
        few = f"the evaluation has only {len(images):,} samples, where {COUNT:,} were wanted"
        memorisation = copies(images, *setup.images, device=setup.model.device)
        pictures = memorisation.pictures(images, setup.images[0])
        result = Result(**asdict(memorisation), cut=few if len(images) < COUNT else None)
        return result, {name: one.contiguous() for name, one in pictures.items()}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        """Columns of samples, each with its nearest training images on the right, the nearest first."""
        suspects, neighbours = samples["samples"][:MOST], samples["neighbours"][:MOST]
        if len(suspects) != len(neighbours):
            return None
        columns = zip(suspects.chunk(COLUMNS), neighbours.chunk(COLUMNS), strict=True)
        grids = [(mosaic(one, 1), mosaic(near.flatten(0, 1), near.shape[1])) for one, near in columns]
        wide = grids[0][0].shape[1], grids[0][1].shape[1]
        space = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * BETWEEN) // COLUMNS - GAP
        scale = max(1, space // sum(wide))
        pitch = sum(wide) * scale + GAP + BETWEEN
        start = (WIDTH - len(grids) * pitch + BETWEEN) // 2
        canvas = Canvas(TOP + grids[0][0].shape[0] * scale + MARGIN)
        for i, (left, right) in enumerate(grids):
            far = start + i * pitch
            near = far + wide[0] * scale + GAP
            inside = separator(suspects.shape[-1]) * scale  # text begins where the images begin
            canvas.text(far + inside, TOP - 32, "sample", ha="left", color=BLUE, weight="bold")
            canvas.text(near + inside, TOP - 32, "nearest training images", ha="left", color=FAINT)
            canvas.image(left, far, TOP, scale)
            canvas.image(right, near, TOP, scale)
        return canvas.figure

    def claims(self, result: Result | None, T: int) -> list[Claim]:
        """Meehan et al., arXiv 2004.05675: samples lie no nearer to the training set than held-out images do.

        The claim fails if more samples are suspicious than chance explains. Samples that are nearer overall leave
        it open, because blurred samples are nearer too.
        """
        claim = "No near-exact copies of training images are found among the samples."
        if result is None:
            return [Claim.not_measured(claim, "the distances of the samples to the training images")]
        holds = False if result.p_value < CHANCE else True if result.nearer_low <= 0.5 else None
        return [Claim(claim, holds, self._evidence(result))]

    def note(self, result: Result, model: Denoiser) -> str:
        return self._evidence(result)

    def _evidence(self, result: Result) -> str:
        chance = "p < 0.001" if result.p_value < 0.001 else f"p = {result.p_value:.2g}"
        nearer = Estimate(result.nearer, result.nearer_low, result.nearer_high)
        return (
            f"{result.flagged:,} of {result.count:,} samples {'is' if result.flagged == 1 else 'are'} suspiciously "
            f"close to one of {result.train_count:,} training images; {result.expected:.3g} would be expected of "
            f"new images ({chance}). In a share of {nearer} of all pairs, a sample is nearer to the training set "
            "than a held-out image; 0.5 is expected without copying. Copies that differ more, for example by noise "
            "with an rms above 0.1 to 0.2 of pixels from −1 to 1, are mostly not detected."
        )
