"""`ddim push`: a run to the Hugging Face hub."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import PathFlag
from ddim.errors import UserError


@dataclass(frozen=True)
class Push:
    """Upload a run to the Hugging Face hub, with a generated card: samples, metrics, data, licence and use.

    `ddim.load("user/name")` loads it from there. Of the run, only config.json and the averaged weights are uploaded.

    For example:
      ddim push runs/mnist user/mnist --out card/     write the files to look at, and upload nothing
      ddim push runs/mnist user/mnist --license mit
    """

    run_folder: Annotated[Positional[str], arg(metavar="RUN")]
    """The run, e.g. runs/mnist."""
    hub_id: Annotated[Positional[str], arg(metavar="USER/NAME")]
    """The name of the model on the hub; its repository is created if it is missing."""
    license: str | None = None
    """Licence of the model, as the hub names it, e.g. mit or cc-by-4.0."""
    private: bool = False
    """Create the repository as a private one."""
    message: str | None = None
    """Message of the commit."""
    out: PathFlag | None = None
    """Write the files into this folder, which must be empty or missing, instead of uploading them."""

    def run(self) -> None:
        from ddim.interop import hub
        from ddim.loading import find

        folder = find(self.run_folder)
        if self.out is None:
            at = hub.push(folder, self.hub_id, private=self.private, license=self.license, message=self.message)
            print(f"The model is at {at}.")
            return
        if self.out.is_file() or (self.out.is_dir() and any(self.out.iterdir())):
            raise UserError(f"{self.out} is not empty; choose another --out, or remove it first.")
        hub.write_files(folder, self.out, self.hub_id, self.license)
        print(f"{self.out} holds what would be uploaded; look at its README.md.")
