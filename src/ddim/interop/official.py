"""Checkpoints of the official PyTorch code of DDPM and DDIM (github.com/ermongroup/ddim): its `Model`, with its EMA."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ddim import schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError, number
from ddim.files import JSON_BYTES, as_table, unreadable, user_path
from ddim.interop.diffusers import ImageSize, size
from ddim.interop.schedulers import STEPS
from ddim.interop.weights import filled, read, reads, renamed, tensors
from ddim.nets.unet2d import UNet2D
from ddim.sampling import Sampling
from ddim.schedule import LONGEST, Schedule
from ddim.text import one_line

ATTENTION = 16  # pixels: the resolution with attention in every config of the official code
NAMES = (
    (r"^time_embedding\.linear_1\.", "temb.dense.0."),
    (r"^time_embedding\.linear_2\.", "temb.dense.1."),
    (r"^conv_norm_out\.", "norm_out."),
    (r"^mid_block\.resnets\.0\.", "mid.block_1."),
    (r"^mid_block\.resnets\.1\.", "mid.block_2."),
    (r"^mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"^(down|up)_blocks\.(\d+)\.resnets\.", r"\1.\2.block."),
    (r"^(down|up)_blocks\.(\d+)\.attentions\.", r"\1.\2.attn."),
    (r"^(down|up)_blocks\.(\d+)\.(down|up)samplers\.0\.", r"\1.\2.\3sample."),
    (r"\.time_emb_proj\.", ".temb_proj."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
)
"""Patterns of the names of `unet2d`'s weights and what replaces them, in this order."""
NEEDED = {
    ("model", "type"): ("simple", "bayesian"),
    ("model", "resamp_with_conv"): (True,),
    ("data", "rescaled"): (True,),
    ("data", "logit_transform"): (False,),
}
"""The values that ddim has for a field of the config."""


def is_official(content: Any) -> bool:
    """Return whether the content of a file has the layout of the official code: a state dict, or its list of states."""
    state = content[0] if isinstance(content, list) and content else content
    return isinstance(state, Mapping) and any(
        isinstance(name, str) and name.removeprefix("module.").startswith("temb.dense.") for name in state
    )


@reads("the official DDPM and DDIM code")
def from_official(
    path: str | Path, *, raw: bool = False, image_size: ImageSize = None, content: Any = None
) -> Denoiser:
    """Return the model of a checkpoint of the official DDPM and DDIM code, in eval mode on the CPU.

    The shape of the network follows from its weights. A config of the official code beside the file, NAME.yml or the
    only one in the folder, tells the size of the images, the betas and the dropout. Without one, the betas are DDPM's,
    linear with T = 1000, and the size follows from the attention, which every official config has at 16 x 16.

    Args:
        path: a `state_dict` of its `Model`, or its `ckpt.pth`: a list with the states of model and optimizer, and the
            averaged weights.
        raw: load the latest weights of such a list instead of the averaged ones.
        image_size: side of the images, or (height, width); by default as described.
        content: of the file, if it has been read.

    Raises:
        UserError: the file is missing, damaged or refused, is of another layout, or its config asks for what ddim
            cannot express, which is named.
    """
    path = user_path(path)
    content = read(path) if content is None else content
    if not is_official(content):
        raise UserError(f"{path} is not a checkpoint of the official DDPM or DDIM code; it has no weights temb.dense.")
    config_path = _config_beside(path)
    config = {} if config_path is None else _read_config(config_path)
    try:
        for (section, key), values in NEEDED.items():
            if (value := _field(config, section, key, values[0])) not in values:
                raise UserError(f"{section}.{key} is {value!r:.60}, and ddim reads {', '.join(map(repr, values))}.")
        noise = _schedule(config)
        dropout = number("model.dropout", _field(config, "model", "dropout", 0.0), float, 0, 1)
        given = image_size or _field(config, "data", "image_size", None)
    except UserError as error:
        raise UserError(f"{config_path} cannot be used: {error}") from error
    states = content if isinstance(content, list) else [content]
    averaged = len(states) > 4 and not raw  # model, optimizer, epoch, step, and the averages
    weights = {
        name: value[:, :, 0, 0] if re.search(r"\.(q|k|v|proj_out)\.weight$", name) and value.ndim == 4 else value
        for name, value in tensors(states[-1 if averaged else 0], path).items()
    }
    options = _options(weights, path)
    stages = len(options["widths"])
    network = filled(lambda: UNet2D(**options, dropout=dropout), weights, path, lambda name: _named(name, stages))
    attends = options["attention"]
    height, width = size(given or (ATTENTION * 2 ** attends[0] if len(attends) == 1 else None))
    shape, sampling = (options["channels"], height, width), Sampling(min(STEPS, noise.N), "ddim", 0.0, "leading")
    return Denoiser(network, noise, "eps", shape, indexed=True, sampling=sampling).eval()


def _options(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Return the arguments of the `UNet2D` with the layers of these weights, but the dropout."""

    def channels(name: str, side: int) -> int:
        if name not in weights:
            raise UserError(f"{path} lacks {name}; give a whole checkpoint of the official DDPM or DDIM code.")
        return weights[name].shape[side] if weights[name].ndim > side else 0

    stages = 1 + max((int(found[1]) for name in weights if (found := re.match(r"down\.(\d{1,2})\.", name))), default=0)
    inputs, outputs = channels("conv_in.weight", 1), channels("conv_out.weight", 0)
    if inputs != outputs:
        raise UserError(
            f"The network of {path} takes {inputs} channels and returns {outputs}; ddim needs one number for each "
            "number of the image, without a variance."
        )
    blocks = sum(re.fullmatch(r"down\.0\.block\.\d+\.conv1\.weight", name) is not None for name in weights)
    return {
        "channels": inputs,
        "widths": [channels(f"down.{i}.block.0.conv1.weight", 0) for i in range(stages)],
        "blocks": blocks,
        "attention": [i for i in range(stages) if f"down.{i}.attn.0.q.weight" in weights],
        "eps": 1e-6,
        "padding": 0,
        "cos_first": False,
        "frequency_shift": 1,
    }


def _named(name: str, stages: int) -> str:
    """Return the official name of a weight of `unet2d`. The official code numbers the way up from the full size."""
    return re.sub(r"^up\.(\d+)", lambda found: f"up.{stages - 1 - int(found[1])}", renamed(name, NAMES))


def _schedule(config: dict[str, Any]) -> Schedule:
    T = number("num_diffusion_timesteps", _field(config, "diffusion", "num_diffusion_timesteps", 1000), int, 1, LONGEST)
    start = number("beta_start", _field(config, "diffusion", "beta_start", 1e-4), float, 0, 1)
    end = number("beta_end", _field(config, "diffusion", "beta_end", 0.02), float, 0, 1)
    kind = _field(config, "diffusion", "beta_schedule", "linear")
    if kind not in ("linear", "quad"):
        raise UserError(f"diffusion.beta_schedule is {kind!r:.60}, and ddim reads linear, quad.")
    return schedule.linear(T, start, end) if kind == "linear" else schedule.scaled_linear(T, start, end)


def _field(config: dict[str, Any], section: str, key: str, default: Any) -> Any:
    return as_table(config.get(section)).get(key, default)


def _config_beside(path: Path) -> Path | None:
    """Return the config of a checkpoint: with its name, or the only one in its folder. More are a `UserError`."""
    found = sorted(one for one in path.parent.glob("*.y*ml") if one.suffix in (".yml", ".yaml"))
    own = [one for one in found if one.stem == path.stem]
    if len(own or found) > 1:
        raise UserError(
            f"{path.parent} holds {len(found)} configs; name that of {path.name} {path.stem}.yml, or move the others."
        )
    return next(iter(own or found), None)


def _read_config(path: Path) -> dict[str, Any]:
    """Return the tables of a YAML file. Objects of `argparse.Namespace`, as the official code writes, are tables."""
    import yaml

    class Reader(yaml.SafeLoader):  # type: ignore[misc]
        """Plain data, and no other objects."""

    Reader.add_constructor(
        "tag:yaml.org,2002:python/object:argparse.Namespace", lambda loader, node: loader.construct_mapping(node, True)
    )
    try:
        if path.stat().st_size > JSON_BYTES:
            raise ValueError(f"it is larger than {JSON_BYTES // 2**20} MiB")
        return as_table(yaml.load(path.read_text(encoding="utf-8"), Reader))
    except OSError as error:
        raise unreadable(path, error, "copy it again") from error
    except Exception as error:  # the reader's own, recursion, or text of another encoding
        raise UserError(
            f"{path} is not a config of the official code ({one_line(error)}); correct it, or move it away."
        ) from error
