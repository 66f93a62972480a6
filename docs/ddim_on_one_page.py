"""DDIM on one page: learn to predict noise from handwritten digits, then draw new digits in any number of steps.

    python ddim_on_one_page.py    # minutes on a CPU; writes ddim_on_one_page.png

The equations are those of "Denoising Diffusion Implicit Models" (Song, Meng and Ermon, arXiv 2010.02502). Here
alpha_bar[t] is DDPM's cumulative product of 1 - beta; that paper writes alpha_t for it.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

T = 1000
betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
alpha_bar = torch.cat([torch.ones(1), (1 - betas).cumprod(0)])  # at t = 0 ... T: from 1, clean, to nearly 0, pure noise


def q_sample(x0, t, eps):
    """Return x_t, the image x_0 with noise eps at the times t, one for each image."""
    abar = alpha_bar[t].view(-1, 1, 1, 1).to(x0)
    return abar.sqrt() * x0 + (1 - abar).sqrt() * eps  # Eq. 4


def loss(network, x0, t, eps):
    """Return the error of the predicted noise, a mean over images and pixels."""
    return (eps - network(q_sample(x0, t, eps), t)).square().mean()  # Eq. 5 with all weights 1


def timesteps(S):
    """Return the S + 1 times that a sampler visits, from T down to 0."""
    return [T - round(i * T / S) for i in range(S + 1)]


@torch.no_grad()
def sample(network, x, times, eta=0.0):
    """Turn the noise x_T into images x_0: eta = 0 is DDIM, deterministic, and eta = 1 is DDPM."""
    for t, s in pairwise(times):
        abar_t, abar_s = alpha_bar[t], alpha_bar[s]
        eps = network(x, torch.full((len(x),), t))
        x0 = (x - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()  # Eq. 9, the predicted image
        std = eta * ((1 - abar_s) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_s).sqrt()  # Eq. 16
        x = abar_s.sqrt() * x0 + (1 - abar_s - std**2).sqrt() * eps + std * torch.randn_like(x)  # Eq. 12
    return x


class Block(nn.Module):
    """Two convolutions with the time added between them, and a shortcut."""

    def __init__(self, inputs, outputs, features):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time, self.shortcut = nn.Linear(features, outputs), nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class UNet(nn.Module):
    """eps_theta(x_t, t): from 8 x 8 pixels to 4 x 4 and 2 x 2, and back with a skip at each size."""

    def __init__(self, width=32):
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, -4, width // 2))  # of the sinusoids of t
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU())
        self.stem, self.head = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)
        self.down8, self.down4 = Block(width, width, 4 * width), Block(width, 2 * width, 4 * width)
        self.middle = Block(2 * width, 2 * width, 4 * width)
        self.up4, self.up8 = Block(4 * width, width, 4 * width), Block(2 * width, width, 4 * width)

    def forward(self, x, t):
        angles = t[:, None] * self.frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        x8 = self.down8(self.stem(x), time)
        x4 = self.down4(F.avg_pool2d(x8, 2), time)
        x2 = self.middle(F.avg_pool2d(x4, 2), time)
        x4 = self.up4(torch.cat([x4, F.interpolate(x2, scale_factor=2)], dim=1), time)
        x8 = self.up8(torch.cat([x8, F.interpolate(x4, scale_factor=2)], dim=1), time)
        return self.head(x8)


def train(network, images, steps=3000, batch=64):
    """Minimise the loss at random times."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=steps)
    for step in range(1, steps + 1):
        x0 = images[torch.randint(len(images), (batch,))]
        error = loss(network, x0, torch.randint(1, T + 1, (batch,)), torch.randn_like(x0))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        decay.step()
        if step % 300 == 0:
            print(f"step {step} of {steps}, loss {error.item():.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1  # (1797, 1, 8, 8) in [-1, 1]
    network = UNet()
    train(network, images)
    ways, xT = [(5, 0.0), (10, 0.0), (100, 0.0), (100, 1.0)], torch.randn(16, 1, 8, 8)
    figure, axes = plt.subplots(len(ways), figsize=(8, 3), layout="constrained")
    for axis, (S, eta) in zip(axes, ways, strict=True):
        digits = sample(network, xT, timesteps(S), eta)  # each row from the same noise
        axis.imshow(torch.cat(list(digits[:, 0]), dim=1), cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(f"S = {S}\nη = {eta:g}", rotation=0, ha="right", va="center")
    figure.savefig("ddim_on_one_page.png", dpi=150)
