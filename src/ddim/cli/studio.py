"""`ddim studio`: a page in the browser."""

import sys
import threading
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.errors import Notice, UserError, number

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Studio:
    """Open a page in the browser to sample, compare, interpolate, restore and train.

    The page is served on this machine, and loads nothing from elsewhere. Ctrl-C ends it.

    For example:
      ddim studio
      ddim studio runs/mnist runs/photos
      ddim studio --port 8000
    """

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="[RUN ...]")] = ()
    """Runs to offer beside the models that come with ddim."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets everyone in the network use the page."""
    port: int = 7860
    """Port to listen at."""

    def run(self) -> None:
        number("--port", self.port, int, 1, 65535)
        if find_spec("gradio") is None:
            raise UserError('The studio needs gradio; install it with: pip install "ddim[studio]".')
        from ddim.studio.app import launch

        if self.host not in LOOPBACK:
            warnings.warn(
                f"Everyone who reaches {self.host} can use this page, and train on folders of this machine.",
                Notice,
                stacklevel=1,
            )
        close = launch(self.runs, self.host, self.port)
        try:
            print(f"The studio is at http://{self.host}:{self.port}/ until Ctrl-C.", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("The studio is closed.", file=sys.stderr)
        finally:
            close()
