"""A trained network of ddim for three other libraries: one set of weights, one arithmetic.

The default network of ddim maps onto diffusers' `UNet2DModel` layer by layer, if each image side can be halved at
each stage without a remainder: `UNet2DModel` doubles the resolution on the way up, ddim takes that of the skip. Three
things differ, and none of them costs time:

- ddim calls the network with t from 1 to T, diffusers with the index t - 1: `UNet` adds the 1.
- `DDIMPipeline` passes no labels: `UNet` holds them. diffusers has no null class: it is row 0 of the embedding.
- `UNet2DModel` has one number of groups for all group norms, ddim chooses it for each: `set_groups`.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.pipelines.ddim import pipeline_ddim
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:  # `first_digit.py` runs without ddim
    from ddim import Denoiser

Array = NDArray[np.float32]
Draw = Callable[[Tensor], Any]
"""(x_T) -> images in [-1, 1], from DDIM with eta = 0."""


class UNet(diffusers.UNet2DModel):
    """diffusers' network, with times from 1 on and with labels that are set before the pipeline is called."""

    labels: Tensor | None = None

    def forward(self, sample: Tensor, timestep: Any, *_: Any, **options: Any) -> Any:
        labels = None if self.labels is None else self.labels[: len(sample)] + 1  # row 0 is the null class
        return super().forward(sample, timestep + 1, class_labels=labels, **options)


def set_groups(network: nn.Module) -> None:
    """Give each group norm the number of groups that ddim's network has for as many channels."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            n = module.num_channels
            module.num_groups = max(g for g in range(1, 33) if n % g == 0 and (g == 1 or n // g >= 4))


def to_unet2d(model: "Denoiser") -> UNet:
    """Return diffusers' network with the weights of a model of ddim whose network is a `UNet`.

    Raises `RuntimeError` if a weight is missing or left over.
    """
    from ddim.interop.unet2d import converted

    config: dict[str, Any] = model.network.config
    attends = [stage in config["attention"] for stage in range(len(config["multipliers"]))]
    unet = UNet(
        sample_size=tuple(model.shape[1:]),
        in_channels=config["channels"],
        out_channels=config["channels"],
        block_out_channels=tuple(config["width"] * multiplier for multiplier in config["multipliers"]),
        layers_per_block=config["blocks"],
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        dropout=config["dropout"],
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_num_groups=1,
        attention_head_dim=None,
        num_class_embeds=None if model.classes is None else model.classes + 1,
    )
    set_groups(unet)
    weights = converted(model.network)
    if model.classes is not None:
        weights["class_embedding.weight"] = model.network.condition.label.weight
    unet.load_state_dict(weights)
    return unet.eval()


def to_pipeline(model: "Denoiser") -> diffusers.DDIMPipeline:
    """Return diffusers' pipeline with the model's network and betas, and with trailing timesteps."""
    scheduler = diffusers.DDIMScheduler(
        model.schedule.T,
        trained_betas=model.schedule.betas[1:].tolist(),
        prediction_type={"eps": "epsilon", "x0": "sample", "v": "v_prediction"}[model.predicts],
        timestep_spacing="trailing",
    )
    pipeline = diffusers.DDIMPipeline(to_unet2d(model), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_diffusers(
    model: "Denoiser", steps: int, labels: Tensor | None, bf16: bool = False, consistent: bool = True
) -> Draw:
    """Return a call of `DDIMPipeline`, in fp32 or under autocast to bf16.

    `consistent`: eps is recomputed from the clipped x0, as in ddim and in denoising-diffusion-pytorch; the pipeline's
    default keeps the eps of the network.
    """
    pipeline = to_pipeline(model)
    pipeline.unet.labels = labels

    def draw(xT: Tensor) -> Tensor:
        with (  # the pipeline draws its own noise
            mock.patch.object(pipeline_ddim, "randn_tensor", return_value=xT),
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        ):
            images = pipeline(
                len(xT),
                num_inference_steps=steps,
                use_clipped_model_output=consistent,
                output_type="pt",
                return_dict=False,
            )[0]
        return 2 * images - 1

    return draw


class ForLucidrains(nn.Module):
    """A network of ddim with the attributes and the arguments that denoising-diffusion-pytorch needs."""

    self_condition = False

    def __init__(self, model: "Denoiser", labels: Tensor | None) -> None:
        super().__init__()
        self.network, self.labels = model.network, labels
        self.channels = self.out_dim = model.shape[0]

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        label = () if self.labels is None else (self.labels[: len(x)],)
        return self.network(x, (t + 1).float(), *label)  # type: ignore[no-any-return]


def with_lucidrains(model: "Denoiser", steps: int, labels: Tensor | None) -> Draw:
    """Return a call of denoising-diffusion-pytorch's `GaussianDiffusion.ddim_sample`, which calls ddim's network.

    Its schedules "linear" and "cosine" have the betas of ddim's.
    """
    from peers import torchvision_pieces

    torchvision_pieces.install()
    from denoising_diffusion_pytorch import GaussianDiffusion
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as library

    library.tqdm = lambda items, **_: items
    diffusion = GaussianDiffusion(
        ForLucidrains(model, labels).eval(),
        image_size=tuple(model.shape[1:]),
        timesteps=model.schedule.T,
        sampling_timesteps=steps,
        objective={"eps": "pred_noise", "x0": "pred_x0", "v": "pred_v"}[model.predicts],
        beta_schedule=model.schedule.config["name"],
    )

    def draw(xT: Tensor) -> Tensor:
        with mock.patch.object(torch, "randn", return_value=xT), torch.inference_mode():
            return 2 * diffusion.ddim_sample(tuple(xT.shape)) - 1  # type: ignore[no-any-return]

    return draw


def with_onnxruntime(model: "Denoiser", steps: int, labels: Tensor | None, batch: int, threads: int, at: Path) -> Draw:
    """Return DDIM in NumPy around onnxruntime, with the network exported for one batch size into the folder `at`."""
    import onnxruntime

    example = [torch.zeros(batch, *model.shape), torch.ones(batch)]
    names = ["x", "t"]
    if labels is not None:
        example, names = [*example, labels[:batch]], [*names, "label"]
    path = at / f"{batch}.onnx"
    torch.onnx.export(
        model.network, tuple(example), path, input_names=names, dynamo=True, external_data=False, verbose=False
    )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    given = {} if labels is None else {"label": labels[:batch].numpy()}
    T = model.schedule.T
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - model.schedule.betas[1:].numpy())])
    times = [T - round(i * T / steps) for i in range(steps)] + [0]

    def draw(xT: Tensor) -> Array:
        x: Array = xT.numpy()
        for t, s in pairwise(times):
            a, b = np.float32(alpha_bar[t] ** 0.5), np.float32((1 - alpha_bar[t]) ** 0.5)
            v = session.run(None, {"x": x, "t": np.full(batch, t, np.float32), **given})[0]
            x0 = np.clip(a * x - b * v, -1, 1)
            eps = (x - a * x0) / b
            x = np.float32(alpha_bar[s] ** 0.5) * x0 + np.float32((1 - alpha_bar[s]) ** 0.5) * eps
        return x

    return draw
