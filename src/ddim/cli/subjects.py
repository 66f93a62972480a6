"""What `ddim evaluate` and `ddim compare` judge: models, and folders of images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddim.cli.references import whole
from ddim.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.denoiser import Denoiser

KEEPS = 64  # a folder of squares up to this side keeps their size, see `ddim.data`


@dataclass(frozen=True)
class Subject:
    """A run or a model that comes with ddim, or a folder of images.

    Attributes:
        name: as it was given.
        folder: where it lies.
        model: whether it is a model.
    """

    name: str
    folder: Path
    model: bool

    @classmethod
    def find(cls, name: str) -> "Subject":
        """By its name or path. Raises `UserError` if there is neither."""
        from ddim.loading import find

        folder = find(name)
        return cls(name, folder, (folder / "config.json").is_file())

    @property
    def is_run(self) -> bool:
        """Whether it is a model that does not come with ddim, so that its folder is the user's to write into."""
        from ddim.loading import comes_with_ddim

        return self.model and not comes_with_ddim(self.folder)

    @property
    def place(self) -> Path:
        """Where its results go: beside what a run holds, not into the package, nor among somebody's images."""
        return self.folder / "evaluate" if self.is_run else Path("evaluate") / self.folder.resolve().name

    @property
    def public_name(self) -> str:
        """For a report that others may read: without the folders of this machine."""
        path = Path(self.name)
        name = path.name if path.is_absolute() or self.name.startswith(("~", "..")) else self.name
        return name.encode(errors="replace").decode()

    @cached_property
    def loaded(self) -> "Denoiser":
        """The model."""
        from ddim.loading import load

        return load(self.folder)

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raises `UserError` if it is a model that draws images of another shape."""
        if self.model and self.loaded.shape != shape:
            drawn, real = (" × ".join(map(str, one)) for one in (self.loaded.shape, shape))
            raise UserError(
                f"{self.name} draws images of {drawn}, not of {real} as the real ones are; name others."
            )

    def draw(self, count: int, device: str | None, **sampling: Any) -> "Tensor":
        """New samples of the model, (count, C, H, W) in [-1, 1]; `sampling` goes to `Denoiser.sample`."""
        from ddim.device import choose_device

        return self.loaded.to(choose_device(device)).sample(count, **sampling)

    def words(self, guidance: float = 1.0, **sampling: Any) -> str:
        """How it is sampled, in words, e.g. "unipc, log-snr, 20 steps"."""
        guided = f", guidance {guidance:g}" if guidance != 1 else ""
        return f"{self.loaded.sampling.describe(**sampling)}{guided}"

    def about(self) -> dict[str, Any]:
        """Which model it is and how many images it has seen, as far as that is known; nothing of a folder."""
        from ddim.model_io import fingerprint, read_config
        from ddim.report.run_folder import images_seen, read_metrics

        if not self.model:
            return {}
        parameters = sum(p.numel() for p in self.loaded.network.parameters())
        facts: dict[str, Any] = {"weights": fingerprint(self.folder), "parameters": parameters}
        seen = images_seen(read_config(self.folder), read_metrics(self.folder / "metrics.jsonl"))
        return facts if seen is None else {**facts, "images_seen": seen}

    def labels(self, count: int) -> "list[int] | None":
        """The classes that `draw` asks for, all in turn; None for a model without."""
        classes = self.loaded.classes
        return None if classes is None else [i % classes for i in range(count)]

    def images(self, shape: tuple[int, int, int]) -> "Tensor":
        """All images of a folder, (N, C, H, W) uint8, grey ones in colour where that is asked for.

        Raises:
            UserError: they have not that shape, or there are none.
        """
        from ddim.evaluate.features import as_pixels

        channels, side, _ = shape
        pixels = as_pixels(whole(self.name, None if side <= KEEPS else side))
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, channels, -1, -1)
        if tuple(pixels.shape[1:]) != shape:
            there, wanted = (" × ".join(map(str, one)) for one in (pixels.shape[1:], shape))
            raise UserError(
                f"The images in {self.name} are {there}, the real ones {wanted}; bring them to that first."
            )
        return pixels
