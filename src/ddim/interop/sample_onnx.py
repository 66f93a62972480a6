"""Draw images from the network beside this file, with NumPy and onnxruntime alone.

    python sample.py --count 16 --seed 0 --out images.npy

writes images (N, C, H, W), float32 in [-1, 1]: those of `model.sample(16, sampler="ddim", seed=0)` in ddim, to the
rounding of the network. `model.json` describes the model, `network.onnx` is its network for any number of images.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def levels(model: dict[str, Any], steps: int | None = None) -> list[tuple[float, float, float]]:
    """Return the levels (t, alpha, sigma) to visit: the model's own, or those of so many steps with trailing times.

    A student, trained for some numbers of steps at times of its own, takes no other number.
    """
    if steps is None:
        return [tuple(level) for level in model["levels"]]
    if model["student"]:
        if str(steps) not in model["student"]:
            raise SystemExit(f"This model is distilled for {', '.join(model['student'])} steps; got {steps}.")
        return [tuple(level) for level in model["student"][str(steps)]]
    N = len(model["training_steps"]) - 1
    if not 1 <= steps <= N:
        raise SystemExit(f"The number of steps must be from 1 to {N}; got {steps}.")
    return [tuple(model["training_steps"][N - round(i * N / steps)]) for i in range(steps + 1)]


def start_std(alpha: float, sigma: float) -> float:
    """Return the standard deviation of x_T: 1 if alpha^2 + sigma^2 = 1, and sigma otherwise."""
    return 1.0 if abs(alpha**2 + sigma**2 - 1) < 1e-9 else sigma


def noise(shape: Sequence[int], seed: int, index: int) -> Any:
    """Return the noise of one image: a stream of Philox whose key is (seed, index)."""
    key = np.array([seed, index], dtype=np.uint64)
    stream = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, 0]))
    return stream.standard_normal(shape, dtype=np.float32)


def sample(
    count: int,
    *,
    steps: int | None = None,
    seed: int = 0,
    first: int = 0,
    labels: Sequence[int] | None = None,
    guidance: float = 1.0,
    clip: bool = True,
    batch_size: int = 64,
    folder: Path = HERE,
) -> Any:
    """Return images, (count, C, H, W) float32, by DDIM with eta = 0 (arXiv 2010.02502, Eq. 12).

    Args:
        count: number of images.
        steps: number of steps, with trailing times; None is the model's own.
        seed, first: seed of the noise, and the index of the first image.
        labels: a class for each image, -1 for any class; None takes all classes in turn, if the model has classes.
        guidance: weight of classifier-free guidance; 1 is the model itself.
        clip: whether each predicted x0 is clipped to [-1, 1].
        batch_size: images at a time.
        folder: where network.onnx and model.json are.
    """
    import onnxruntime

    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    network = onnxruntime.InferenceSession(str(folder / "network.onnx"), providers=["CPUExecutionProvider"])
    classes = model["classes"]
    if labels is None and classes is not None:
        labels = [(first + i) % classes for i in range(count)]
    if classes is None and (labels is not None or guidance != 1):
        raise SystemExit("This model has no classes: leave the labels and the guidance out.")
    if labels is not None and (len(labels) != count or not all(-1 <= label < classes for label in labels)):
        raise SystemExit(f"Give {count} labels, one for each image, from -1 (any class) to {classes - 1}.")

    def output(x: Any, t: float, label: Any) -> Any:
        given = {"x": x, "t": np.full(len(x), t - model["indexed"], np.float32)}
        return network.run(None, given if label is None else {**given, "label": label})[0]

    clip = clip and model["clip"]
    batches, visited = [], levels(model, steps)
    for start in range(0, count, batch_size):
        rows = range(start, min(start + batch_size, count))
        x = np.float32(start_std(*visited[0][1:])) * np.stack([noise(model["shape"], seed, first + i) for i in rows])
        label = None if labels is None else np.array([labels[i] for i in rows], np.int64)
        for (t, alpha, sigma), (_, alpha_s, sigma_s) in pairwise(visited):
            a, b = np.float32(alpha), np.float32(sigma)
            predicted = output(x, t, label)
            if guidance != 1:
                without = output(x, t, np.full(len(x), -1, np.int64))
                predicted = without + np.float32(guidance) * (predicted - without)
            match model["predicts"]:
                case "eps":
                    x0, eps = (x - b * predicted) / a, predicted
                case "x0":
                    x0, eps = predicted, (x - a * predicted) / b
                case "flow":
                    total = np.float32(alpha + sigma)
                    x0, eps = (x - b * predicted) / total, (x + a * predicted) / total
                case _:  # v
                    radius2 = np.float32(alpha**2 + sigma**2)
                    x0, eps = (a * x - b * predicted) / radius2, (b * x + a * predicted) / radius2
            if clip:
                x0 = x0.clip(-1, 1)
                eps = (x - a * x0) / b
            x = np.float32(alpha_s) * x0 + np.float32(sigma_s) * eps
        batches.append(x.clip(-1, 1) if clip else x)
    return np.concatenate(batches)


def main() -> None:
    """Draw the images that the flags describe, and write them."""
    parser = argparse.ArgumentParser(description="Draw images from the network beside this file.")
    parser.add_argument("--count", type=int, default=16, help="number of images")
    parser.add_argument("--steps", type=int, help="number of steps, with trailing times; the model's own if not given")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--first", type=int, default=0, help="index of the first image of the seed")
    parser.add_argument("--labels", help="class of each image, e.g. 0,1,2; all classes in turn if not given")
    parser.add_argument("--guidance", type=float, default=1.0, help="weight of classifier-free guidance")
    parser.add_argument("--out", type=Path, default=Path("images.npy"), help="the .npy file to write")
    flags = parser.parse_args()
    labels = None if flags.labels is None else [int(label) for label in flags.labels.split(",")]
    images = sample(
        flags.count, steps=flags.steps, seed=flags.seed, first=flags.first, labels=labels, guidance=flags.guidance
    )
    np.save(flags.out, images)
    print(f"{flags.out} holds {len(images)} images, {images.dtype} from {images.min():.3g} to {images.max():.3g}.")


if __name__ == "__main__":
    main()
