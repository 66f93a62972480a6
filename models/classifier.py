"""Train the small classifiers that evaluate digits; for MNIST in about three minutes of one core.

    python models/classifier.py mnist
    python models/classifier.py digits

writes src/ddim/evaluate/extractors/weights/NAME.safetensors, the weights with their accuracy on the test images.
DDIM_DATA names the folder that holds MNIST.
"""

import argparse
import time
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ddim import open_images
from ddim.evaluate.extractors.classifier import SIZES, WEIGHTS, Network
from ddim.evaluate.features import as_pixels
from ddim.files import writing

BATCH, SEED = 128, 0


class Recipe(NamedTuple):
    """Number of epochs, and the largest shift of an image in pixels."""

    epochs: int
    shift: int


RECIPES = {"mnist": Recipe(8, 2), "digits": Recipe(150, 1)}


def train(name: str) -> None:
    """Train the classifier of a data set and save its weights."""
    torch.manual_seed(SEED)
    recipe = RECIPES[name]
    images, test = open_images(name), open_images(name, split="test")
    pixels, network, began = as_pixels(images), Network(SIZES[name]), time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    batches = len(pixels) // BATCH
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=recipe.epochs * batches)
    for epoch in range(recipe.epochs):
        for some in torch.randperm(len(pixels))[: batches * BATCH].view(-1, BATCH):
            _, logits = network(shifted(pixels[some].float() / 255, recipe.shift))
            optimizer.zero_grad()
            F.cross_entropy(logits, images.labels[some]).backward()
            optimizer.step()
            pace.step()
        right = accuracy(network, as_pixels(test), test.labels)
        now = time.perf_counter() - began
        print(f"epoch {epoch + 1}/{recipe.epochs}: test accuracy {right:.4f}, {now:.0f} s", flush=True)
    about = {"test_accuracy": f"{right:.4f}", "epochs": str(recipe.epochs), "seed": str(SEED), "data": name}
    with writing(WEIGHTS / f"{name}.safetensors") as draft:
        save_file(network.state_dict(), draft, metadata=about)


def shifted(images: Tensor, most: int) -> Tensor:
    """Shift each of (B, 1, side, side) images by up to `most` pixels each way, and fill with black."""
    side = images.shape[-1]
    padded = F.pad(images, [most] * 4)
    rows, columns = (torch.randint(2 * most + 1, (len(images), 1)) + torch.arange(side) for _ in range(2))
    each = torch.arange(len(images))[:, None, None]
    return padded[each, 0, rows[:, :, None], columns[:, None, :]][:, None]


@torch.no_grad()
def accuracy(network: Network, pixels: Tensor, labels: Tensor) -> float:
    """Return the accuracy of a network in training on (N, 1, side, side) uint8 images."""
    network.eval()
    named = torch.cat([network(part.float() / 255)[1].argmax(1) for part in pixels.split(500)])
    network.train()
    return (named == labels).double().mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    train(parser.parse_args().name)
