"""The `scheduler_config.json` of diffusers, and what it says in ddim's words: a schedule, a prediction, a spacing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ddim import schedule
from ddim.errors import UserError, number
from ddim.forward import start_std
from ddim.sampling import Sampling
from ddim.schedule import LONGEST, Schedule

STEPS = 50  # of `DDIMPipeline` by default
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SPACINGS = {"leading": "leading", "trailing": "trailing", "linspace": "linspace"}
BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}
DEFAULTS: dict[str, Any] = {
    **BETAS,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "set_alpha_to_one": True,
    "thresholding": False,
    "timestep_spacing": "leading",
}
"""The fields of `DDIMScheduler` that decide its images, with their defaults. Older files have fewer fields."""
SIGMAS: dict[str, Any] = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
EULER: dict[str, Any] = {
    **BETAS,
    **SIGMAS,
    "timestep_spacing": "linspace",
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "sigma_min": None,
    "sigma_max": None,
    "final_sigmas_type": "zero",
}
EDM: dict[str, Any] = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
    "final_sigmas_type": "zero",
}
FLOW: dict[str, Any] = {
    **SIGMAS,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
    "invert_sigmas": False,
    "shift_terminal": None,
    "stochastic_sampling": False,
}
UNUSED = {
    "DDIMScheduler": ("dynamic_thresholding_ratio", "sample_max_value", "variance_type"),
    "FlowMatchEulerDiscreteScheduler": (
        *("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type"),
    ),
}
"""Fields that decide nothing where the others have the values that ddim reads."""


class Scheduler(NamedTuple):
    """A scheduler in ddim's words."""

    schedule: Schedule
    predicts: str
    sampling: Sampling
    indexed: bool  # whether the network sees t - 1
    sigma_data: float | None = None  # of EDM's preconditioning; None is none
    note: str = ""  # what ddim does otherwise


def read(config: dict[str, Any]) -> Scheduler:
    """Return what a scheduler's config describes, with the defaults of its pipeline: 50 steps, deterministic.

    DDIM is Euler's method in sigma / alpha, so the Euler schedulers are DDIM with eta = 0, too. diffusers counts the
    indices of its betas from 0: index i is the time i + 1 (`indexed` of `ddim.Denoiser`).

    Raises:
        UserError: another class than `CLASSES`, a field that is unknown, or a value that ddim cannot express; each is
            named.
    """
    name = config.get("_class_name")
    if name not in CLASSES:
        raise UserError(f"_class_name is {name!r:.60}, and ddim reads {', '.join(CLASSES)}.")
    defaults, translate = CLASSES[name]
    unused = UNUSED.get("DDIMScheduler" if name == "DDPMScheduler" else name, ())
    known = {key: value for key, value in config.items() if not key.startswith("_") and key not in unused}
    if unknown := sorted(known.keys() - defaults.keys()):
        raise UserError(f"ddim does not know its field {unknown[0]} = {known[unknown[0]]!r:.60}.")
    return translate({**defaults, **known})


def _ddim(field: dict[str, Any]) -> Scheduler:
    spacing = _spacing(field)
    _flags(field, "clip_sample", "set_alpha_to_one")
    _needed(field, thresholding=False)
    if field["clip_sample"]:
        _needed(field, clip_sample_range=1.0)
    noise, predicts = _schedule(field), _choice(PREDICTIONS, "prediction_type", field)
    sampling = Sampling(min(STEPS, noise.N), "ddim", 0.0, spacing, clip=bool(field["clip_sample"]))
    note = ""
    if not field["set_alpha_to_one"]:
        note = "set_alpha_to_one = false: ddim ends at t = 0, and diffusers leaves the noise of its first index"
    if spacing == "linspace":
        note = "timestep_spacing = linspace: each step of ddim ends where the next begins, and in diffusers beside it"
    return Scheduler(noise, predicts, sampling, indexed=True, note=note)


def _euler(field: dict[str, Any]) -> Scheduler:
    spacing = _spacing(field)
    _flags(field, "use_karras_sigmas")
    _needed(field, use_exponential_sigmas=False, use_beta_sigmas=False, sigma_min=None, sigma_max=None)
    _needed(field, interpolation_type="linear", timestep_type="discrete", final_sigmas_type="zero")
    if field["use_karras_sigmas"]:
        _needed(field, timestep_spacing="linspace")
        spacing = "karras"
    noise, predicts = _schedule(field), _choice(PREDICTIONS, "prediction_type", field)
    return Scheduler(noise, predicts, Sampling(min(STEPS, noise.N), "ddim", 0.0, spacing, clip=False), indexed=True)


def _edm(field: dict[str, Any]) -> Scheduler:
    _needed(field, sigma_schedule="karras", prediction_type="epsilon", rho=7.0, final_sigmas_type="zero")
    noise = schedule.edm(field["sigma_min"], field["sigma_max"])
    data = number("sigma_data", field["sigma_data"], float, 1e-6, 1e6)
    sampling = Sampling(STEPS, "ddim", 0.0, "karras", clip=False)
    return Scheduler(noise, "x0", sampling, indexed=False, sigma_data=data)


def _flow(field: dict[str, Any]) -> Scheduler:
    _needed(field, **{name: FLOW[name] for name in FLOW if name != "num_train_timesteps"})
    T = number("num_train_timesteps", field["num_train_timesteps"], int, 2, LONGEST)
    sampling = Sampling(min(STEPS, T), "ddim", 0.0, "linspace", clip=False)
    return Scheduler(schedule.flow(T), "flow", sampling, indexed=False)


CLASSES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Scheduler]]] = {
    "DDIMScheduler": (DEFAULTS, _ddim),
    "DDPMScheduler": (DEFAULTS, _ddim),
    "EulerDiscreteScheduler": (EULER, _euler),
    "EDMEulerScheduler": (EDM, _edm),
    "FlowMatchEulerDiscreteScheduler": (FLOW, _flow),
}
"""The schedulers that ddim reads: the fields that decide their images with their defaults, and their translation."""


def write(noise: Schedule, predicts: str, sampling: Sampling) -> dict[str, Any]:
    """Return the config of a `DDIMScheduler` with the betas of a schedule, a named spacing of ddim, and its clipping.

    Spacings that diffusers does not have become "trailing".

    Raises:
        UserError: a schedule that does not preserve variance, or a prediction that `DDIMScheduler` does not have.
    """
    if noise.T != noise.N or start_std(noise(1)) != 1:
        raise UserError(
            f"DDIMScheduler has schedules of betas alone, and this model has schedule = {noise.config['name']!r}; "
            "export it to onnx or torch."
        )
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if predicts not in predictions:
        raise UserError(f"DDIMScheduler has no prediction_type for predicts = {predicts!r}; export to onnx or torch.")
    spacing = sampling.spacing.removesuffix("-offset")
    linear = {"linear": "linear", "scaled-linear": "scaled_linear"}.get(noise.config["name"])
    betas: dict[str, Any] = {"beta_schedule": "linear", "trained_betas": noise.betas[1:].tolist()}
    if linear:
        ends = {key: noise.config[key] for key in ("beta_start", "beta_end")}
        betas = {"beta_schedule": linear, "trained_betas": None, **ends}
    return {
        "_class_name": "DDIMScheduler",
        **DEFAULTS,
        "num_train_timesteps": noise.N,
        **betas,
        "prediction_type": predictions[predicts],
        "clip_sample": sampling.clip,
        "steps_offset": int(sampling.spacing == "leading-offset"),
        "timestep_spacing": spacing if spacing in ("leading", "trailing") else "trailing",
    }


def _spacing(field: dict[str, Any]) -> str:
    spacing = _choice(SPACINGS, "timestep_spacing", field)
    if spacing != "leading":
        return spacing
    if field["steps_offset"] not in (0, 1) or isinstance(field["steps_offset"], bool):
        raise UserError(f"steps_offset is {field['steps_offset']!r:.60}, and ddim reads 0, 1.")
    return "leading-offset" if field["steps_offset"] else "leading"


def _needed(field: dict[str, Any], **values: Any) -> None:
    """Raise `UserError` for a field with another value than the only one that ddim has."""
    for key, value in values.items():
        if field[key] != value:
            raise UserError(f"{key} is {field[key]!r:.60}, and ddim has {value!r} alone.")


def _flags(field: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if field[key] not in (True, False):
            raise UserError(f"{key} is {field[key]!r:.60}, and ddim reads True, False.")


def _schedule(field: dict[str, Any]) -> Schedule:
    _flags(field, "rescale_betas_zero_snr")
    noise = _betas(field)
    return schedule.from_betas(_rescaled(noise)) if field["rescale_betas_zero_snr"] else noise


def _betas(field: dict[str, Any]) -> Schedule:
    T = number("num_train_timesteps", field["num_train_timesteps"], int, 1, LONGEST)
    if field["trained_betas"] is not None:
        betas = schedule.from_betas(field["trained_betas"])
        if betas.N != T:
            raise UserError(f"trained_betas has {betas.N} numbers, and num_train_timesteps is {T}.")
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
