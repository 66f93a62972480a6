"""Linear measurements y = A x + noise of images: masks, lower resolution, blur, grey, and any other linear map."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddim.edit.solve import conjugate_gradients, per_image
from ddim.errors import UserError, number, shown
from ddim.text import dimensions

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts colour to grey
LOST = 0.03  # of the largest singular value of a blur: smaller ones cannot be inverted in the presence of rounding


class Operator(ABC):
    """A linear map A from images (B, C, H, W) to measurements (B, ...), in any dtype and on any device."""

    closed: ClassVar[bool] = True  # whether `solve` is a formula

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, (B, C, H, W): <A x, y> = <x, A^T y> for every x and y."""

    def solve(self, y: Tensor, ridge: Tensor | float) -> Tensor:
        """Return (A A^T + ridge I)^-1 y, by conjugate gradients unless a subclass has a closed form.

        Args:
            y: (B, ...).
            ridge: at least 0, one number or (B, 1, 1, 1); 0 gives the pseudo-inverse.
        """
        shift = per_image(ridge, y)
        iterations = min(y[0].numel() + 5, 100)  # without rounding, one for each unknown is enough
        return conjugate_gradients(lambda v: self.forward(self.adjoint(v)) + shift * v, y, iterations)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Return A^+ y = A^T (A A^T)^-1 y: of all images that A maps nearest to y, the one of least length."""
        return self.adjoint(self.solve(y, 0.0))

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of one measurement, without the batch, of images (C, H, W).

        Raises:
            UserError: the operator does not fit such images.
        """
        return tuple(self.forward(torch.zeros(1, *shape)).shape[1:])

    def shown(self, y: Tensor) -> Tensor:
        """Return a measurement as images to look at, (B, C or 1, H, W)."""
        return self.adjoint(y)


class Mask(Operator):
    """Known pixels: y = mask x, with 0 at the unknown ones.

    Args:
        mask: (H, W), (1, H, W) or (C, H, W) of booleans, or of the numbers 0 and 1: whether a pixel is known.

    Raises:
        UserError: a mask of another shape or with other numbers, or without a known pixel.
    """

    def __init__(self, mask: Tensor) -> None:
        try:
            mask = torch.as_tensor(mask)
        except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, for text, None or an object
            raise UserError(f"A mask is a tensor or an array, (H, W) or (C, H, W); got {shown(mask)}.") from error
        if mask.ndim not in (2, 3) or not ((mask == 0) | (mask == 1)).all():
            raise UserError(
                f"A mask has the shape (H, W) or (C, H, W), 1 for known pixels and 0 for others; got {mask.dtype} "
                f"{tuple(mask.shape)}. Threshold it first, e.g. mask > 0.5."
            )
        if not mask.any():
            raise UserError("The mask has no known pixel, so there is nothing to restore from; mark known pixels by 1.")
        self.mask = mask.bool() if mask.ndim == 3 else mask.bool()[None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def solve(self, y: Tensor, ridge: Tensor | float) -> Tensor:
        """Return the closed form: A A^T is the mask itself, and y is 0 where nothing is known."""
        return self.forward(y) / (1 + per_image(ridge, y))

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        if tuple(self.mask.shape) not in ((1, *shape[1:]), tuple(shape)):
            raise UserError(
                f"The mask is {dimensions(self.mask.shape[1:])} pixels{_channels(self.mask, shape)}, and the model's "
                f"images are {dimensions(shape[1:])}; give a mask of that size."
            )
        return tuple(shape)


class Box(Mask):
    """A mask whose unknown pixels are a rectangle.

    Args:
        shape: (C, H, W) or (H, W) of the images.
        top, left, height, width: of the unknown rectangle, in pixels from the upper left corner.

    Raises:
        UserError: a rectangle that leaves the image, is empty, or covers it.
    """

    def __init__(self, shape: Sequence[int], top: int, left: int, height: int, width: int) -> None:
        H, W = shape[-2:]
        top, left = number("The top of a box", top, int, 0, H - 1), number("The left of a box", left, int, 0, W - 1)
        height = number("The height of a box", height, int, 1, H - top)
        width = number("The width of a box", width, int, 1, W - left)
        mask = torch.ones(H, W, dtype=torch.bool)
        mask[top : top + height, left : left + width] = False
        super().__init__(mask)


class SuperResolution(Operator):
    """The mean of each square of pixels: an image `factor` times smaller.

    Args:
        factor: side of a square, at least 1; it divides H and W.

    Raises:
        UserError: a factor that is no whole number of at least 1.
    """

    def __init__(self, factor: int) -> None:
        self.factor = number("The factor of super-resolution", factor, int, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.shown(y) / self.factor**2

    def solve(self, y: Tensor, ridge: Tensor | float) -> Tensor:
        """Return the closed form, from A A^T = I / factor^2."""
        return y / (self.factor**-2 + per_image(ridge, y))

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        C, H, W = shape
        if H % self.factor or W % self.factor:
            raise UserError(
                f"Super-resolution by {self.factor} needs sides that {self.factor} divides, and the model's images are "
                f"{dimensions((H, W))}; choose a factor of {math.gcd(H, W)}."
            )
        return C, H // self.factor, W // self.factor

    def shown(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)


class Blur(Operator):
    """A Gaussian blur; at the borders the image is continued by its reflection.

    The blur of rows and that of columns are symmetric matrices K, so that A = K_H (x) K_W is diagonal in their
    eigenvectors. `solve` drops components that the blur makes smaller than 0.03 unless there is a larger ridge.

    Args:
        std: standard deviation of the Gaussian in pixels, above 0 and at most 100.

    Raises:
        UserError: a std out of range.
    """

    def __init__(self, std: float) -> None:
        self.std = number("The standard deviation of a blur", std, float, 1e-3, 100, "above 0 and at most 100 pixels")
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self._spectral(x, lambda values: values)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def solve(self, y: Tensor, ridge: Tensor | float) -> Tensor:
        shift = per_image(ridge, y)

        def inverse(values: Tensor) -> Tensor:
            square = values**2
            return torch.where(square + shift > LOST**2, 1 / (square + shift).clamp(min=LOST**2), 0.0)

        return self._spectral(y, inverse)

    def _spectral(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return f(A) x."""
        (rows, tall), (columns, wide) = (self._eigen(side) for side in x.shape[-2:])
        rows, columns = rows.to(x), columns.to(x)
        values = (tall[:, None] * wide).to(x)
        return rows @ (function(values) * (rows.T @ x @ columns)) @ columns.T

    def _eigen(self, side: int) -> tuple[Tensor, Tensor]:
        """Return the eigenvectors, in columns, and the eigenvalues of the blur of a line of pixels."""
        if side not in self._kept:
            reach = math.ceil(8 * self.std)
            distance = torch.arange(-reach, reach + 1, dtype=torch.float64)
            weights = torch.exp(-((distance / self.std) ** 2) / 2)
            weights = weights / weights.sum()
            place = torch.arange(side)[:, None] + distance.long()  # pixel that each weight falls on, before reflection
            place = place % (2 * side)
            place = torch.minimum(place, 2 * side - 1 - place)
            matrix = torch.zeros(side, side, dtype=torch.float64)
            matrix.scatter_add_(1, place, weights.expand(side, -1).contiguous())
            values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
            self._kept[side] = vectors, values
        return self._kept[side]

    def shown(self, y: Tensor) -> Tensor:
        return y


class Grey(Operator):
    """The brightness of a colour image: 0.299 R + 0.587 G + 0.114 B, (B, 1, H, W), as Pillow computes it."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * self._weights(x)).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        return y * self._weights(y)

    def solve(self, y: Tensor, ridge: Tensor | float) -> Tensor:
        """Return the closed form, from A A^T = 0.299^2 + 0.587^2 + 0.114^2."""
        return y / (sum(weight**2 for weight in LUMA) + per_image(ridge, y))

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        if shape[0] != 3:
            raise UserError(
                f"Grey is measured of images with 3 channels, and the model's have {shape[0]}; choose another operator."
            )
        return 1, *shape[1:]

    def shown(self, y: Tensor) -> Tensor:
        return y

    def _weights(self, like: Tensor) -> Tensor:
        return torch.tensor(LUMA, dtype=like.dtype, device=like.device)[:, None, None]


class Linear(Operator):
    """Any linear map.

    Args:
        forward: x (B, C, H, W) -> A x (B, ...).
        adjoint: y (B, ...) -> A^T y (B, C, H, W).

    Raises:
        UserError: from `measured`, if the adjoint returns another shape or is not the adjoint of `forward`.
    """

    closed = False

    def __init__(self, forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> None:
        self._forward, self._adjoint = forward, adjoint

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._adjoint(y)

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, *shape, generator=generator)
        try:
            forward = self._forward(x)
            y = torch.randn(forward.shape, generator=generator)
            back = self._adjoint(y)
        except (RuntimeError, IndexError, ValueError) as error:
            raise UserError(f"The linear map does not take images of shape {tuple(shape)}: {error}.") from error
        fits = back.shape == x.shape
        if not fits or not torch.isclose((forward * y).sum(), (x * back).sum(), rtol=1e-3, atol=1e-3 * y.norm()):
            given = "another number" if fits else f"shape {tuple(back.shape)}"
            raise UserError(
                "The adjoint of a linear map must satisfy <A x, y> = <x, A^T y>, with A^T y shaped like x; got "
                f"{given}. Derive it, e.g. by torch.func.vjp of the forward map."
            )
        return tuple(forward.shape[1:])


def check_operator(operator: Any) -> None:
    """Raise `UserError` unless `operator` is an `Operator`."""
    if not isinstance(operator, Operator):
        raise UserError(
            f"The operator must be an Operator such as ddim.edit.Mask(mask); got {operator!r:.80}. Wrap a function in "
            "ddim.edit.Linear(forward, adjoint)."
        )


def check_measurement(operator: Any, y: Any, shape: Sequence[int]) -> None:
    """Raise `UserError` unless `y` is a finite batch of measurements by an operator of images (C, H, W)."""
    check_operator(operator)
    expected = operator.measured(shape)
    if not isinstance(y, Tensor) or not y.is_floating_point() or tuple(y.shape[1:]) != expected or not len(y):
        given = f"{tuple(y.shape)} {y.dtype}" if isinstance(y, Tensor) else f"an object of type {type(y).__name__}"
        raise UserError(
            f"The measurement must be a float tensor (B, {', '.join(map(str, expected))}), as "
            f"{type(operator).__name__}.forward returns it for images of shape {tuple(shape)}; got {given}."
        )
    if not y.isfinite().all():
        raise UserError("The measurement must be finite; some numbers are NaN or infinite. Mask unknown pixels by 0.")


def _channels(mask: Tensor, shape: Sequence[int]) -> str:
    return "" if len(mask) in (1, shape[0]) else f" with {len(mask)} channels"
