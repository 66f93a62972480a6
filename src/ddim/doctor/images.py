"""Findings on the end of the noise schedule and on the samples: their distance, saturated pixels, copies."""

import math

import numpy as np
from torch import Tensor

from ddim.doctor.base import Diagnosis, register, signed
from ddim.evaluate.intervals import Mean
from ddim.experiments import experiments
from ddim.plots.numbers import counted_epochs, small
from ddim.run_folder import DISTANCES, RunFolder
from ddim.train.best import shows_copies

BRIGHTNESS = 0.3  # standard deviation of the mean of an image in [-1, 1], where no images are known
CHANCE = 0.05  # a p-value below it is not due to chance
EXTREME = 8  # grey levels from black or white that look like them
SHARE = 0.05  # of the pixels
FEWEST = 9  # measurements of a distance, of which three in the middle are compared with three at the end
DEVIATIONS = 3.0  # standard deviations by which the mean of the last three must be the larger
NORMAL = 0.6745  # median of |z|, for z ~ N(0, 1)
LESS_OVERFITTING = "train on more images, for a shorter time, or with --augment 0.12 or --dropout 0.1."


@register("schedule", "The end of the noise schedule")
def schedule(run: RunFolder) -> Diagnosis:
    """Say whether x_T still shows how bright its image is, although sampling starts from pure noise.

    The mean of N pixels of x_T is alpha_T m + sigma_T z / sqrt(N), with m the mean of the image. So the brightness
    shifts it by d = alpha_T / sigma_T sqrt(N) std(m) standard deviations (after arXiv 2305.08891, section 3).
    """
    alpha, sigma = (float(rate) for rate in run.model.schedule(run.model.schedule.T)[1:])
    if run.data is not None and len(run.data) > 1:
        brightness = float((run.data.float() / 127.5 - 1).mean(dim=(1, 2, 3)).std())
        known = "of the training images"
    else:
        brightness, known = BRIGHTNESS, "that is assumed"
    shift = alpha / sigma * math.sqrt(math.prod(run.model.shape)) * brightness
    evidence = (
        f"At t = T the SNR is {small((alpha / sigma) ** 2)}. A difference in brightness of {brightness:.2f}, one "
        f"standard deviation {known}, shifts the mean of x_T by {shift:.2f} standard deviations of its noise."
    )
    if shift <= 0.5:
        return Diagnosis("fine", f"{evidence} Starting from pure noise is right.")
    advice = "Train with a schedule that ends at a lower SNR: `ddim list schedules`."
    evidence += " Sampling starts from noise without this shift, so samples are pulled to medium brightness."
    return Diagnosis("act" if shift > 1 else "unclear", evidence, advice)


@register("saturation", "Black and white pixels")
def saturation(run: RunFolder) -> Diagnosis:
    """Say whether samples have more pixels at black or white than the training images have."""
    if run.data is None or not run.snapshots or len(run.snapshots[-1].averaged) < 2:
        return Diagnosis("not measured", "The folder holds no training images or no samples from training.")
    real, drawn = (Mean.of(_saturated(images)) for images in (run.data, run.snapshots[-1].averaged))
    difference, margin = drawn.mean - real.mean, math.hypot(real.margin, drawn.margin)
    evidence = (
        f"{drawn.mean:.0%} of the pixels of {drawn.images} samples of the last step are black or white, and "
        f"{real.mean:.0%} of those of {real.images} training images: {signed(difference, 0)} ± {margin:.0%}."
    )
    if abs(difference) <= max(margin, SHARE):
        return Diagnosis("fine", evidence)
    if difference > 0:
        return Diagnosis("act", f"{evidence} Samples are saturated.", "Train longer; with guidance, lower its weight.")
    evidence += " Samples do not reach black and white where images do: noise or a grey veil is left."
    return Diagnosis("act", evidence, "Train longer, or sample with more steps.")


@register("distance", "The distance of samples to held-out images")
def distance(run: RunFolder) -> Diagnosis:
    """Say whether samples got worse again during the training.

    The mean of the last three distances is compared with that of the three around the smallest one. The noise is a
    robust estimate from the differences of neighbouring distances, so a distance that still changes counts as noisier.
    """
    lines = run.distances
    if not lines:
        advice = "`ddim train --validate 0.05` measures them, in a training of enough updates."
        return Diagnosis("not measured", "No samples were measured during the training.", advice)
    values = np.array([line[run.metric] for line in lines])
    best = int(values.argmin())
    evidence = (
        f"The {DISTANCES[run.metric]} of samples to held-out images was smallest, {values[best]:.3g}, after "
        f"{counted_epochs(lines[best]['epoch'])}, and is {values[-1]:.3g} at the end."
    )
    if len(values) < FEWEST:
        return Diagnosis("unclear", f"{evidence} There are {len(values)} measurements, too few for a trend.")
    around = values[max(best - 1, 0) : best + 2]
    rise = float(values[-3:].mean() - around.mean())
    noise = float(np.median(abs(np.diff(values[len(values) // 3 :])))) / NORMAL / math.sqrt(2)
    if best < len(values) - 4 and rise > DEVIATIONS * noise * math.sqrt(1 / 3 + 1 / len(around)):
        return Diagnosis(
            "act",
            f"{evidence} The last three are {rise:.3g} larger on average than those around the smallest: samples got "
            "worse again.",
            f"The model is already the best average that was measured; for a better one, {LESS_OVERFITTING}",
        )
    return Diagnosis("fine", evidence)


@register("copies", "Copies of training images")
def copies(run: RunFolder) -> Diagnosis:
    """Say what the search for copies found, or those during the training; see `ddim.evaluate.copies`."""
    found = run.results.get("memorisation")
    if found is None and run.searches:
        last = run.searches[-1]
        evidence = (
            f"{last['copies']:.1%} of the samples after {counted_epochs(last['epoch'])} are closer to one training "
            f"image than held-out images are, p = {last['copies_p']:.2g}."
        )
        if not shows_copies(last):
            return Diagnosis("fine", evidence)
        return Diagnosis("act", evidence, f"`ddim report` says when that began; {LESS_OVERFITTING}")
    if found is None:
        command = "`ddim reproduce RUN` or `ddim evaluate RUN`"
        return Diagnosis("not measured", "No search for copies has been made.", f"{command} makes it.")
    evidence = experiments["memorisation"].note(found, run.model)
    if found.p_value < CHANCE:  # type: ignore[attr-defined]
        return Diagnosis("act", evidence, f"Look at the figure of the suspects; {LESS_OVERFITTING}")
    return Diagnosis("fine", evidence)


def _saturated(images: Tensor) -> Tensor:
    """Return the share of black and white pixels of each uint8 image."""
    return ((images <= EXTREME) | (images >= 255 - EXTREME)).double().mean(dim=(1, 2, 3))
