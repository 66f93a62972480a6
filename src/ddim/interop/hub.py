"""Models on the Hugging Face hub: `ddim.load("user/name")` and `ddim push RUN user/name`."""

import contextlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ddim import model_io
from ddim.errors import UserError
from ddim.files import read_table, user_path, write_text
from ddim.interop.card import SAMPLES, card, without_paths
from ddim.pictures import layout, visible, write_grid
from ddim.text import one_line

PREFIX = "hf:"
MODEL = ("config.json", "model.safetensors")  # of a run
SAFE = (
    *MODEL,
    "model_index.json",
    "scheduler_config.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
)
PICKLED = ("diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.bin")  # where there are no others
COUNT = 64  # samples of a card
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)


def is_id(name: Any) -> bool:
    """Return whether a name is a hub id: "hf:user/name", or "user/name" where neither is a folder.

    "@REVISION" may follow. A `Path` never is one.
    """
    if not isinstance(name, str) or _ID.fullmatch(name.removeprefix(PREFIX)) is None:
        return False
    return name.startswith(PREFIX) or not (Path(name).exists() or Path(name).parent.exists())


def download(name: str) -> Path:
    """Return the folder of the hub's cache with the model of a hub id; files that are there are not fetched again.

    Only configs and weights of a run of ddim or of diffusers are fetched. `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and
    `HF_HUB_OFFLINE` are honoured.

    Raises:
        UserError: huggingface_hub is not installed, or there is no such model, no network, or no model in its files.
    """
    hub = _library(f"There is no folder {name}, and to look on the Hugging Face hub")
    where, _, revision = name.removeprefix(PREFIX).partition("@")
    try:
        for patterns in (SAFE, PICKLED):
            folder = Path(hub.snapshot_download(where, revision=revision or None, allow_patterns=list(patterns)))
            if {path.suffix for path in folder.rglob("*.*")} & {".safetensors", ".bin"}:
                return folder
    except Exception as error:  # no network, no such id, no right to read it
        raise UserError(
            f"There is no folder {name}, and the hub gives no model {where} ({type(error).__name__}: "
            f"{one_line(error, 300).rstrip('. ')}); check the name, the network and HF_TOKEN."
        ) from error
    raise UserError(
        f"The model {where} of the hub holds no weights that ddim reads: model.safetensors, or those of a UNet2DModel."
    )


def push(
    run: str | Path, hub_id: str, *, private: bool = False, license: str | None = None, message: str | None = None
) -> str:
    """Upload a run to the hub, with a card and a picture of samples, and return the address of the commit.

    `config.json`, with the last names of absolute paths alone, `model.safetensors` (the averaged weights), `README.md`
    and `samples.png` are uploaded, and nothing else of the run.

    Args:
        run: the folder of a run.
        hub_id: user/name; the repository is created if it is missing.
        private: whether a new repository is private.
        license: as the hub names it, e.g. "mit".
        message: of the commit.

    Raises:
        UserError: the run cannot be read, huggingface_hub is not installed, or the hub refuses the upload.
    """
    hub = _library("To push a model")
    if _ID.fullmatch(hub_id) is None or "@" in hub_id:
        raise UserError(f"A model of the hub is called user/name; got {hub_id!r:.60}.")
    with tempfile.TemporaryDirectory() as place:
        write_files(run, place, hub_id, license)
        api = hub.HfApi(library_name="ddim")
        try:
            api.create_repo(hub_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                folder_path=place, repo_id=hub_id, commit_message=message or "Upload a model of ddim"
            )
        except Exception as error:  # no network, no token, no right to write
            raise UserError(
                f"The hub refused the upload to {hub_id} ({type(error).__name__}: "
                f"{one_line(error, 300).rstrip('. ')}); check the name, the network and HF_TOKEN (`hf auth login`)."
            ) from error
    return str(commit.commit_url)


def write_files(run: str | Path, folder: str | Path, hub_id: str, license: str | None = None) -> None:
    """Write into a folder the files that `push` uploads. Arguments and errors are the same."""
    run, folder = user_path(run), user_path(folder)
    model = model_io.load(run)
    folder.mkdir(parents=True, exist_ok=True)
    samples = None
    if model.shape[0] in (1, 3):
        columns = None if model.classes is None or model.classes > COUNT else model.classes
        count = COUNT if columns is None else COUNT // columns * columns
        layout(count, (model.shape[1], model.shape[2]), columns)  # refuse a picture that is too large
        write_grid(visible(model.sample(count, pixels=True, progress=False)), folder / SAMPLES, columns)
        samples = f"{count} samples, {model.describe_sampling()}, seed 0"
    shutil.copyfile(run / MODEL[1], folder / MODEL[1])
    write_text(folder / MODEL[0], json.dumps(without_paths(read_table(run / MODEL[0])), indent=2) + "\n")
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    write_text(folder / "README.md", card(run, hub_id, parameters, license, samples))


def _library(need: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f'{need} ddim needs one more library; pip install "ddim[hub]".') from error
    with contextlib.suppress(Exception):  # bars belong to the caller
        huggingface_hub.utils.disable_progress_bars()
    return huggingface_hub
