"""The `scheduler_config.json` of diffusers, and what it says in ddim's words: a schedule, a prediction, a spacing."""

from typing import Any, NamedTuple

import torch

from ddim import schedule
from ddim.errors import UserError, number
from ddim.sampling import Sampling
from ddim.schedule import LONGEST, Schedule

STEPS = 50  # of `DDIMPipeline` by default
CLASSES = ("DDIMScheduler", "DDPMScheduler")
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SPACINGS = {"leading": "leading", "trailing": "trailing"}
DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "thresholding": False,
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
}
"""The fields of `DDIMScheduler` that decide its images, with their defaults. Older files have fewer fields."""
NEEDED = {"clip_sample_range": 1.0, "set_alpha_to_one": True, "thresholding": False, "steps_offset": 0}
"""The only value that ddim has for a field, where the field matters."""
UNUSED = ("dynamic_thresholding_ratio", "sample_max_value", "variance_type")
"""Fields that decide nothing in DDIM without thresholding."""


class Scheduler(NamedTuple):
    """A scheduler in ddim's words."""

    schedule: Schedule
    predicts: str
    sampling: Sampling
    clip: bool


def read(config: dict[str, Any]) -> Scheduler:
    """Return what a scheduler's config describes, with the defaults of `DDIMPipeline`: DDIM, 50 steps, eta = 0.

    diffusers counts its indices from 0: index i is the time i + 1 (`indexed` of `ddim.Denoiser`).

    Raises:
        UserError: another class than `CLASSES`, a field that is unknown, or a value that ddim cannot express; each is
            named.
    """
    name = config.get("_class_name")
    if name not in CLASSES:
        raise UserError(f"_class_name is {name!r:.60}, and ddim reads {' and '.join(CLASSES)}.")
    known = {key: value for key, value in config.items() if not key.startswith("_") and key not in UNUSED}
    if unknown := sorted(known.keys() - DEFAULTS.keys()):
        raise UserError(f"ddim does not know its field {unknown[0]} = {known[unknown[0]]!r:.60}.")
    field = {**DEFAULTS, **known}
    predicts = _choice(PREDICTIONS, "prediction_type", field)
    spacing = _choice(SPACINGS, "timestep_spacing", field)
    for key in ("clip_sample", "rescale_betas_zero_snr"):
        if field[key] not in (True, False):
            raise UserError(f"{key} is {field[key]!r:.60}, and ddim reads True, False.")
    idle = {"clip_sample_range": not field["clip_sample"], "steps_offset": spacing != "leading"}
    for key, value in NEEDED.items():
        if field[key] != value and not idle.get(key):
            raise UserError(f"{key} is {field[key]!r:.60}, and ddim has {value!r} alone.")
    betas = _schedule(field)
    if field["rescale_betas_zero_snr"]:
        betas = schedule.from_betas(_rescaled(betas))
    sampling = Sampling(min(STEPS, betas.T), "ddim", 0.0, spacing)
    return Scheduler(betas, predicts, sampling, bool(field["clip_sample"]))


def write(noise: Schedule, predicts: str, spacing: str) -> dict[str, Any]:
    """Return the config of a `DDIMScheduler` with the betas of a schedule and a named spacing of ddim.

    Spacings that diffusers does not have become "trailing".
    """
    linear = {"linear": "linear", "scaled-linear": "scaled_linear"}.get(noise.config["name"])
    betas: dict[str, Any] = {"beta_schedule": "linear", "trained_betas": noise.betas[1:].tolist()}
    if linear:
        ends = {key: noise.config[key] for key in ("beta_start", "beta_end")}
        betas = {"beta_schedule": linear, "trained_betas": None, **ends}
    return {
        "_class_name": "DDIMScheduler",
        **DEFAULTS,
        "num_train_timesteps": noise.T,
        **betas,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTIONS.items()}[predicts],
        "timestep_spacing": spacing if spacing in SPACINGS else "trailing",
    }


def _schedule(field: dict[str, Any]) -> Schedule:
    T = number("num_train_timesteps", field["num_train_timesteps"], int, 1, LONGEST)
    if field["trained_betas"] is not None:
        betas = schedule.from_betas(field["trained_betas"])
        if betas.T != T:
            raise UserError(f"trained_betas has {betas.T} numbers, and num_train_timesteps is {T}.")
        return betas
    start, end = (number(key, field[key], float, 0, 1) for key in ("beta_start", "beta_end"))
    match field["beta_schedule"]:
        case "linear":
            return schedule.linear(T, start, end)
        case "scaled_linear":
            return schedule.scaled_linear(T, start, end)
        case "squaredcos_cap_v2":
            return schedule.cosine(T)
        case "sigmoid":  # of DDPMScheduler
            rise = torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid()
            return schedule.from_betas(start + (end - start) * rise)
    known = "linear, scaled_linear, squaredcos_cap_v2, sigmoid"
    raise UserError(f"beta_schedule is {field['beta_schedule']!r:.60}, and ddim reads {known}.")


def _rescaled(noise: Schedule) -> torch.Tensor:
    """Return betas with alpha_T = 0 and alpha_1 unchanged (arXiv 2305.08891, Algorithm 1)."""
    alpha = noise.alpha_bar[1:].sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    alpha_bar = torch.cat([alpha.new_ones(1), alpha**2])
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


def _choice(names: dict[str, str], key: str, field: dict[str, Any]) -> str:
    if not isinstance(field[key], str) or field[key] not in names:
        raise UserError(f"{key} is {field[key]!r:.60}, and ddim reads {', '.join(names)}.")
    return names[field[key]]
