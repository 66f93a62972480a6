"""Pictures of one's own as a batch for a model, to encode, vary or restore."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddim.data.decode import Unreadable, decode
from ddim.errors import UserError
from ddim.files import user_path


def read_images(*paths: str | Path, shape: tuple[int, ...]) -> Tensor:
    """Return the pictures in files as a batch, (B, C, H, W) float32 in [-1, 1].

    A picture of another size is cropped to the largest central window of the model's aspect and resized, as
    `ddim.open_images` does with a folder. It becomes grey for a shape of one channel.

    Args:
        paths: PNG, JPEG, WebP, BMP, TIFF, GIF or PNM files, at least one.
        shape: (C, H, W) of the model, `model.shape`, with 1 or 3 channels.

    Raises:
        UserError: no path, a file that cannot be read, a sheet that ddim drew, or another number of channels.
    """
    channels, height, width = shape
    if not paths:
        raise UserError("Name at least one file with a picture.")
    if channels not in (1, 3):
        raise UserError(f"Pictures have 1 or 3 channels, and the shape is {tuple(shape)}; read arrays with numpy.load.")
    batch = []
    for path in map(user_path, paths):
        try:
            with path.open("rb") as file:
                pixels = decode(file, (height, width)).pixels
        except OSError as error:
            raise UserError(f"Could not read {path}: {error.strerror}; give the file of a picture.") from error
        except Unreadable as error:
            raise UserError(f"{path} {error}; give a file with one picture, e.g. a PNG or a JPEG.") from error
        if channels == 1:
            pixels = np.array(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None]
        batch.append(torch.from_numpy(pixels))
    return torch.stack(batch).float() / 127.5 - 1
