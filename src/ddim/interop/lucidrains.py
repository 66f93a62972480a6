"""Models of denoising-diffusion-pytorch (github.com/lucidrains): milestones of its `Trainer`, and its `Unet`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim import schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import user_path
from ddim.interop.diffusers import ImageSize, size
from ddim.interop.schedulers import STEPS
from ddim.interop.weights import filled, read, reads, tensors
from ddim.nets.lucidrains import LucidrainsUNet
from ddim.sampling import Sampling
from ddim.schedule import Schedule

MARK = "mid_attn.mem_kv"  # a weight that no other layout has
LARGEST_ERROR = 1e-3  # of a loss weight, relative: float32 numbers of a formula


def is_lucidrains(content: Any) -> bool:
    """Return whether the content of a file is a milestone, or a state dict of `GaussianDiffusion`, `EMA` or `Unet`."""
    states = [content, content.get("model")] if isinstance(content, Mapping) else []
    return any(isinstance(state, Mapping) and any(str(name).endswith(MARK) for name in state) for state in states)


@reads("denoising-diffusion-pytorch")
def from_lucidrains(
    path: str | Path,
    *,
    raw: bool = False,
    image_size: ImageSize = None,
    noise: Schedule | None = None,
    predicts: str | None = None,
    content: Any = None,
) -> Denoiser:
    """Return the model of a file of denoising-diffusion-pytorch, in eval mode on the CPU.

    The shape of the network follows from its weights, the betas and the objective from the buffers of
    `GaussianDiffusion`: its `loss_weight` is another function of the SNR for each objective. The size of the images
    is not in these files. Images are those in [0, 1] there, [-1, 1] here (`auto_normalize`, its default).

    Args:
        path: a milestone `model-N.pt` of `Trainer`, or a state dict of `GaussianDiffusion`, of `EMA` or of `Unet`.
        raw: load the latest weights of a milestone instead of the averaged ones.
        image_size: side of the images, or (height, width).
        noise, predicts: the schedule, and what the network predicts, "eps", "x0" or "v"; needed for a `Unet` alone.
        content: of the file, if it has been read.

    Raises:
        UserError: the file is missing, damaged, refused or of another layout, the network has an option that ddim
            does not have, which is named, or something that the file does not tell is not given.
    """
    path = user_path(path)
    content = read(path) if content is None else content
    if not is_lucidrains(content):
        raise UserError(f"{path} is not a model of denoising-diffusion-pytorch; it has no weight {MARK}.")
    state = _state(content, raw, path)
    if "betas" in state and "loss_weight" in state:
        noise = _schedule(state["betas"]) if noise is None else noise
        predicts = _objective(state["loss_weight"], noise, path) if predicts is None else predicts
    if noise is None or predicts is None:
        raise UserError(
            f"{path} is a Unet alone, which tells neither its schedule nor what it predicts: load it with "
            f'ddim.interop.from_lucidrains(path, image_size=32, noise=ddim.schedule.sigmoid(), predicts="v") or as it '
            "was trained."
        )
    weights = {name.removeprefix("model."): value for name, value in state.items() if "." in name}
    options = _options(weights, path)
    height, width = size(image_size)
    network = filled(lambda: LucidrainsUNet(**options), weights, path)
    shape, sampling = (options["channels"], height, width), Sampling(min(STEPS, noise.N), "ddim", 0.0, "trailing")
    return Denoiser(network, noise, predicts, shape, indexed=True, sampling=sampling).eval()


def _state(content: Mapping[str, Any], raw: bool, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `GaussianDiffusion`, or of a `Unet`."""
    if "model" in content and not isinstance(content["model"], Tensor):
        content = content["model"] if raw or "ema" not in content else content["ema"]
    found = tensors(content, path)
    prefix = "online_model." if raw else "ema_model."
    if any(name.startswith(prefix) for name in found):
        found = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    return found


def _schedule(betas: Tensor) -> Schedule:
    """Return the schedule of these betas, which are float32: the library's linear or cosine in float64, or these.

    Its sigmoid has float32 numbers in its formula, and so betas of its own.
    """
    T = len(betas)
    scale = 1000 / T
    named = [schedule.cosine(T)]
    if scale * 0.02 < 1:
        named.append(schedule.linear(T, scale * 1e-4, scale * 0.02))
    close = (one for one in named if torch.allclose(one.betas[1:].float(), betas, rtol=1e-5, atol=1e-7))
    return next(close, None) or schedule.from_betas(betas.double())


def _objective(weight: Tensor, noise: Schedule, path: Path) -> str:
    """Return what the network predicts, from the weight of its loss: c / SNR, c or c / (SNR + 1), c = min(SNR, gamma).

    Without min-SNR weighting, gamma is infinite.
    """
    weight, snr = weight.double(), noise.log_snr[1:].exp()
    errors = {}
    for name, clipped in (("eps", weight * snr), ("x0", weight), ("v", weight * (snr + 1))):
        errors[name] = float((clipped / snr.clamp(max=float(clipped.max())) - 1).abs().max())
    best = min(errors, key=lambda name: errors[name])
    if len(weight) != noise.T or not errors[best] < LARGEST_ERROR:
        raise UserError(
            f"The loss_weight of {path} is that of no objective on its betas; give ddim.interop.from_lucidrains what "
            'the network predicts, e.g. predicts="v".'
        )
    return best


def _options(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Return the arguments of the `LucidrainsUNet` with the layers of these weights."""

    def shape(name: str, dimensions: int) -> list[int]:
        if name not in weights or weights[name].ndim != dimensions:
            raise UserError(
                f"{path} lacks {name}; ddim reads the Unet of denoising-diffusion-pytorch 1.9 and later, whole."
            )
        return list(weights[name].shape)

    refused = {
        "learned_sinusoidal_cond or random_fourier_features": "time_mlp.0.weights" in weights,
        "self_condition": shape("init_conv.weight", 4)[1] == 2 * shape("final_conv.weight", 4)[0],
        "learned_variance": 2 * shape("init_conv.weight", 4)[1] == shape("final_conv.weight", 4)[0],
    }
    for name, has in refused.items():
        if has:
            raise UserError(f"The network of {path} has {name}, which ddim does not have.")
    stages = 1 + max((int(found[1]) for name in weights if (found := re.match(r"downs\.(\d{1,2})\.", name))), default=0)
    last = [f"downs.{i}.3.{'1.' if i < stages - 1 else ''}weight" for i in range(stages)]
    full = [i for i in range(stages) if f"downs.{i}.2.to_out.weight" in weights]
    memory = [shape(f"downs.{i}.2.mem_kv", 4) for i in range(stages)]
    return {
        "channels": shape("init_conv.weight", 4)[1],
        "width": shape("time_mlp.1.weight", 2)[1],
        "widths": [shape(name, 4)[0] for name in last],
        "first": shape("init_conv.weight", 4)[0],
        "full_attention": full,
        "heads": [one[1] for one in memory],
        "head_channels": [one[3] if i in full else one[2] for i, one in enumerate(memory)],
    }
