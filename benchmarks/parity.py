"""Measure how far a model that goes from one library to another is from what it was.

    python benchmarks/parity.py

compares the outputs of the network at random inputs, and images after 50 steps of DDIM from the same noise, in float32:
the largest difference of a number. Networks have random weights, but for `mnist`, which comes with ddim. The rows of a
library that is not installed are left out. It writes results/parity.json and .md, and the table of docs/interop.md.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from unittest import mock

import harness
import torch
from torch import Tensor

import ddim
from ddim import interop
from ddim.denoiser import Denoiser
from ddim.noise import ImageNoise

COUNT, STEPS = 4, 50
BOUNDS = "1e-5 for outputs; 1e-3 for images, 1e-4 for ONNX Runtime"
Row = tuple[str, float, float]


def alive(network: torch.nn.Module) -> torch.nn.Module:
    """Give layers that start at zero random weights."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def noise(model: Denoiser) -> Tensor:
    """Return the noise that `model.sample` starts from."""
    return ImageNoise(0, range(COUNT))(torch.empty(COUNT, *model.shape))


def differences(
    model: Denoiser, peer: Callable[..., Tensor], images: Tensor, indexed: bool, clip: bool = True
) -> list[float]:
    """Return the largest difference of the outputs, and of the images.

    `peer` is called with x, t and the labels, if there are any; `indexed` is whether its t is an index.
    """
    x, t = torch.randn(COUNT, *model.shape), torch.linspace(1, model.schedule.T, COUNT).round()
    label = () if model.classes is None else (torch.arange(COUNT) % model.classes,)
    with torch.no_grad():
        ours = model.network(x, t - int(model.indexed), *label)
        theirs = peer(x, t - int(indexed), *label)
    options = {"steps": STEPS, "sampler": "ddim", "clip": clip, "progress": False}
    sampled = model.sample(COUNT, spacing=model.sampling.spacing if model.indexed else "trailing", **options)
    return [float((a - b).abs().max()) for a, b in ((ours, theirs), (sampled, images))]


def pipeline_images(pipeline: object, start: Tensor) -> Tensor:
    """Return what `DDIMPipeline` draws from a noise, in [-1, 1]."""
    from diffusers.pipelines.ddim import pipeline_ddim

    pipeline.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]
    options = {"num_inference_steps": STEPS, "use_clipped_model_output": True, "output_type": "pt"}
    with mock.patch.object(pipeline_ddim, "randn_tensor", return_value=start):
        return 2 * pipeline(len(start), **options).images - 1  # type: ignore[operator]


def diffusers_rows(folder: Path) -> Iterator[Row]:
    """Yield diffusers to ddim, for the layers of DDPM and those by default, and ddim to diffusers."""
    import diffusers

    stages = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    ddpm = {"downsample_padding": 0, "freq_shift": 1, "flip_sin_to_cos": False, "norm_eps": 1e-6}
    for name, options in (("UNet2DModel, defaults", {}), ("UNet2DModel, DDPM's layers", ddpm)):
        unet = diffusers.UNet2DModel(sample_size=16, block_out_channels=(32, 64), **stages, **options).eval()
        pipeline = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler())
        pipeline.save_pretrained(folder / name)
        model = ddim.load(folder / name, backend="torch")
        images = pipeline_images(pipeline, noise(model))
        found = differences(model, lambda x, t, unet=unet: unet(x, t).sample, images, indexed=True)
        yield f"diffusers to ddim: {name}", *found
    for name, options in (("unet", {"width": 32, "groups": 1}), ("unet2d", {})):
        network = alive(ddim.nets.build(name, 3, "tiny", **options))
        model = Denoiser(network, ddim.schedule.cosine(), "v", (3, 16, 16)).eval()
        interop.to_diffusers(model, folder / name)
        pipeline = diffusers.DDIMPipeline.from_pretrained(folder / name)
        images = pipeline_images(pipeline, noise(model))
        found = differences(model, lambda x, t, p=pipeline: p.unet(x, t).sample, images, indexed=True)
        yield f"ddim to diffusers: {name}", *found


def euler_rows(folder: Path) -> Iterator[Row]:
    """Yield the Euler schedulers of diffusers, whose images are not clipped."""
    import diffusers

    stages = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    for scheduler in (
        diffusers.EulerDiscreteScheduler(use_karras_sigmas=True),
        diffusers.EDMEulerScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(),
    ):
        unet, name = (
            diffusers.UNet2DModel(sample_size=16, block_out_channels=(32, 64), **stages).eval(),
            type(scheduler),
        )
        diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder / name.__name__)
        model = ddim.load(folder / name.__name__, backend="torch")
        network = getattr(model.network, "network", model.network)
        scheduler.set_timesteps(STEPS)
        x = noise(model) * getattr(scheduler, "init_noise_sigma", 1.0)
        t = scheduler.timesteps[::10]
        inputs = torch.randn(len(t), *model.shape)
        with torch.no_grad():
            outputs = float((network(inputs, t) - unet(inputs, t).sample).abs().max())
            for t in scheduler.timesteps:
                scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
                x = scheduler.step(unet(scaled, t).sample, t, x).prev_sample
        images = (model.sample(COUNT, progress=False) - x).abs().max() / x.abs().max()
        yield f"diffusers to ddim: {name.__name__} (images: share of the largest value)", outputs, float(images)


def guided_row(folder: Path) -> Row:
    """Return guided-diffusion's `UNetModel` to ddim, with its "ddim50", which clips."""
    sys.path.insert(0, str(harness.ROOT / "tests" / "interop"))
    from guided_model import UNetModel

    reference = UNetModel(updown=True, heads=4).eval()
    torch.save(reference.state_dict(), folder / "guided.pt")
    model = ddim.load(folder / "guided.pt", backend="torch", image_size=16)
    abar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).float()
    abar = torch.cat([torch.ones(1), abar])  # abar[index + 1]
    x, times = noise(model), [-1, *range(0, 1000, 1000 // STEPS)]
    with torch.no_grad():
        for j, i in reversed(list(pairwise(times))):
            eps, signal, rate = reference(x, torch.full((COUNT,), i)), abar[i + 1].sqrt(), (1 - abar[i + 1]).sqrt()
            x0 = ((x - eps * rate) / signal).clamp(-1, 1)
            x = abar[j + 1].sqrt() * x0 + (1 - abar[j + 1]).sqrt() * (x - signal * x0) / rate
    return "guided-diffusion to ddim", *differences(model, reference, x, indexed=True)


def edm_row(folder: Path) -> Row:
    """Return EDM's `DhariwalUNet` to ddim, with 50 of its steps, Heun's."""
    sys.path.insert(0, str(harness.ROOT / "tests" / "interop"))
    from dhariwal_model import EDMPrecond

    reference = EDMPrecond().eval()
    torch.save(reference.state_dict(), folder / "edm.pt")
    model = ddim.load(folder / "edm.pt", backend="torch")
    ramp = torch.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), STEPS, dtype=torch.float64)
    x, sigma = 80 * noise(model).double(), torch.cat([ramp**7, torch.zeros(1)])
    inputs, c_noise = torch.randn(COUNT, *model.shape), torch.linspace(-1.5, 1.1, COUNT)
    with torch.no_grad():
        outputs = float((model.network.network(inputs, c_noise) - reference.model(inputs, c_noise)).abs().max())

        def slope(x: Tensor, t: Tensor) -> Tensor:
            return (x - reference(x.float(), t.float().expand(COUNT)).double()) / t

        for t, s in pairwise(sigma):
            first = slope(x, t)
            end = x + (s - t) * first
            x = x + (s - t) * (first + slope(end, s)) / 2 if s > 0 else end
    images = float((model.sample(COUNT, steps=STEPS, progress=False) - x).abs().max() / x.abs().max())
    return "EDM's DhariwalUNet to ddim (images: share of the largest value)", outputs, images


def official_row(folder: Path) -> Row:
    """Return the official code's `Model` to ddim, with its own steps, which do not clip."""
    sys.path.insert(0, str(harness.ROOT / "tests" / "interop"))
    from official_model import Model

    reference = Model().eval()
    torch.save(reference.state_dict(), folder / "ckpt.pth")
    model = ddim.load(folder / "ckpt.pth", backend="torch", image_size=16)
    abar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).float()
    abar = torch.cat([torch.ones(1), abar])  # abar[index + 1]
    x, times = noise(model), [-1, *range(0, 1000, 1000 // STEPS)]
    with torch.no_grad():
        for j, i in reversed(list(pairwise(times))):
            eps = reference(x, torch.full((COUNT,), i))
            x0 = (x - eps * (1 - abar[i + 1]).sqrt()) / abar[i + 1].sqrt()
            x = abar[j + 1].sqrt() * x0 + (1 - abar[j + 1]).sqrt() * eps
    outputs, images = differences(model, reference, x, indexed=True, clip=False)
    return (
        "official DDPM and DDIM code to ddim (images: share of the largest value)",
        outputs,
        images / float(x.abs().max()),
    )


def lucidrains_row(folder: Path) -> Row:
    """Return denoising-diffusion-pytorch's `GaussianDiffusion` to ddim."""
    from peers import torchvision_pieces

    torchvision_pieces.install()
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as library

    library.tqdm = lambda items, **_: items
    diffusion = GaussianDiffusion(Unet(16, dim_mults=(1, 2)), image_size=16, sampling_timesteps=STEPS).eval()
    torch.save(diffusion.state_dict(), folder / "model.pt")
    model = ddim.load(folder / "model.pt", backend="torch", image_size=16)
    with mock.patch.object(torch, "randn", return_value=noise(model)):
        images = 2 * diffusion.ddim_sample((COUNT, *model.shape)) - 1
    return "denoising-diffusion-pytorch to ddim", *differences(model, diffusion.model, images, indexed=True)


def onnx_row(folder: Path) -> Row:
    """Return the trained `mnist` to ONNX Runtime and the sampler in NumPy."""
    import onnxruntime

    model = ddim.load("mnist", backend="torch")
    interop.to_onnx(model, folder / "onnx")
    session = onnxruntime.InferenceSession(str(folder / "onnx/network.onnx"), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def network(*inputs: Tensor) -> Tensor:
        given = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    images = interop.sample_onnx.sample(COUNT, steps=STEPS, folder=folder / "onnx")
    return "ddim to ONNX Runtime: mnist, trained", *differences(model, network, torch.from_numpy(images), indexed=False)


def main() -> None:
    """Measure every row, and write the results."""
    torch.manual_seed(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if find_spec("diffusers"):
            rows += [*diffusers_rows(folder), *euler_rows(folder)]
        rows += [official_row(folder), guided_row(folder), edm_row(folder)]
        if find_spec("denoising_diffusion_pytorch"):
            rows.append(lucidrains_row(folder))
        if find_spec("onnxruntime") and find_spec("onnxscript"):
            rows.append(onnx_row(folder))
    lines = ["| from and to | outputs of the network | images after 50 steps |", "|---|--:|--:|"]
    lines += [f"| {name} | {outputs:.1e} | {images:.1e} |" for name, outputs, images in rows]
    table = "\n".join([*lines, "", f"Largest differences of a number; the tests allow {BOUNDS}.", ""])
    found = {"rows": [dict(zip(("name", "outputs", "images"), row, strict=True)) for row in rows]}
    harness.save({"machine": harness.machine(), **found}, table, harness.ROOT / "benchmarks/results/parity.json")
    harness.fill("docs/interop.md", "parity.py", table)


if __name__ == "__main__":
    main()
