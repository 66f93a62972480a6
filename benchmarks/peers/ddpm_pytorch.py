"""denoising-diffusion-pytorch on MNIST, for the equal-time benchmark.

Its Unet(dim=32, channels=1), GaussianDiffusion and EMA, with every default of its Trainer: batch 16, Adam at
1e-4 with betas (0.9, 0.99), gradients clipped at 1.0, and an average of decay 0.995 updated every 10 steps.
The Trainer itself reads a folder of pictures through torchvision, which is not installed here, so its loop is
written out below with the library's own classes. One default is left out: its random horizontal flips, which
would mirror the digits. Images are padded from 28x28 to 32x32, as the Unet halves them three times, and the
samples are cropped back.

    DDIM_DATA=... python ddpm_pytorch.py                                    measures the step time
    DDIM_DATA=... python ddpm_pytorch.py --steps N --run RUN --out FOLDER   trains and samples
"""

import torch
import torchvision_pieces
from common import Digits, arguments, cycle, measure, save_samples, train
from ema_pytorch import EMA

torchvision_pieces.install()
from denoising_diffusion_pytorch import GaussianDiffusion, Unet  # noqa: E402
from denoising_diffusion_pytorch.version import __version__  # noqa: E402

BATCH = 16


def main():
    """Measure, or train and sample."""
    args = arguments(__doc__.splitlines()[0])
    diffusion = GaussianDiffusion(Unet(dim=32, channels=1), image_size=32, timesteps=1000, sampling_timesteps=50)
    average = EMA(diffusion, beta=0.995, update_every=10)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    batches = cycle(torch.utils.data.DataLoader(Digits(side=32), batch_size=BATCH, shuffle=True))

    def step():
        loss = diffusion(next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        return loss.item()

    parameters = sum(p.numel() for p in diffusion.parameters())
    facts = {"library": f"denoising-diffusion-pytorch {__version__}", "parameters": parameters, "batch": BATCH}
    diffusion.train()
    if args.steps is None:
        return measure(step, facts)
    spent = train(step, {"diffusion": diffusion, "optimizer": optimizer, "average": average}, args)
    average.ema_model.eval()

    def draw(count, steps):
        average.ema_model.sampling_timesteps = steps
        return average.ema_model.sample(batch_size=count)[:, :, 2:-2, 2:-2]

    return save_samples(draw, "ddpm-pytorch", args, facts, spent)


if __name__ == "__main__":
    main()
