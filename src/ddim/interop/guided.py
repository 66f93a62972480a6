"""Checkpoints of OpenAI's improved-diffusion and guided-diffusion: the state dict of a `UNetModel`."""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ddim import schedule
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError, number
from ddim.files import read_table, unreadable, user_path
from ddim.interop.diffusers import ImageSize, size
from ddim.interop.schedulers import STEPS
from ddim.interop.weights import filled, read, reads, renamed, tensors
from ddim.nets.unet2d import UNet2D
from ddim.sampling import Sampling
from ddim.schedule import LONGEST

FLAGS: dict[str, Any] = {
    "image_size": None,
    "num_heads": 4,
    "num_head_channels": -1,
    "num_heads_upsample": -1,
    "use_new_attention_order": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "rescale_timesteps": False,
    "predict_xstart": False,
    "timestep_respacing": "",
    "dropout": 0.0,
}
"""The flags of its scripts that the weights do not tell, with guided-diffusion's defaults."""
TOLD = (
    *("num_channels", "num_res_blocks", "channel_mult", "attention_resolutions", "class_cond", "learn_sigma"),
    *("use_scale_shift_norm", "resblock_updown", "use_checkpoint", "use_fp16", "use_kl", "rescale_learned_sigmas"),
    "sigma_small",
)
"""Flags that the weights tell, or that do not change what the network computes."""
NEEDED = {
    "num_heads_upsample": (-1,),
    "timestep_respacing": ("",),
    "noise_schedule": ("linear", "cosine"),
    **dict.fromkeys(("use_new_attention_order", "rescale_timesteps", "predict_xstart"), (True, False)),
}
"""The values that ddim has for a flag."""
BLOCK = (
    (r"^in_layers\.0\.", "norm1."),
    (r"^in_layers\.2\.", "conv1."),
    (r"^emb_layers\.1\.", "time_emb_proj."),
    (r"^out_layers\.0\.", "norm2."),
    (r"^out_layers\.3\.", "conv2."),
    (r"^skip_connection\.", "conv_shortcut."),
    (r"^norm\.", "group_norm."),
    (r"^proj_out\.", "to_out.0."),
    (r"^op\.", "conv."),
)
"""Patterns of the names of a layer's weights and what replaces them in `unet2d`."""


def is_guided(content: Any) -> bool:
    """Return whether the content of a file has the layout of a `UNetModel`."""
    return isinstance(content, Mapping) and {"time_embed.0.weight", "input_blocks.0.0.weight"} <= {
        name.removeprefix("module.") for name in content if isinstance(name, str)
    }


@reads("improved-diffusion or guided-diffusion")
def from_guided(path: str | Path, *, raw: bool = False, image_size: ImageSize = None, content: Any = None) -> Denoiser:
    """Return the model of a checkpoint of improved-diffusion or guided-diffusion, in eval mode on the CPU.

    The layers follow from the weights. What these do not tell are flags of the scripts: NAME.json beside NAME.pt is a
    table of them, e.g. {"num_heads": 4, "noise_schedule": "cosine", "diffusion_steps": 4000}. Without the file they
    have guided-diffusion's defaults, and a `Notice` says so. The half of the output that predicts a variance is left
    out: DDIM does not use it.

    Args:
        path: a `state_dict`: model*.pt, or its average ema_*.pt.
        raw: must be False, as a file holds one set of weights.
        image_size: side of the images, or (height, width); by default the flag.
        content: of the file, if it has been read.

    Raises:
        UserError: the file is missing, damaged or refused, is of another layout, or a flag has a value that ddim cannot
            express, which is named.
    """
    path = user_path(path)
    if raw:
        raise UserError(f"{path} holds one set of weights; leave out --raw, and name the other file.")
    content = read(path) if content is None else content
    if not is_guided(content):
        raise UserError(f"{path} is no checkpoint of guided-diffusion; it has no weights input_blocks.0.0.weight.")
    flags_path = path.with_suffix(".json")
    flags = _flags(flags_path)
    weights = tensors(content, path)
    options = _options(weights, flags, path)
    T = flags["diffusion_steps"]
    noise = schedule.cosine(T) if flags["noise_schedule"] == "cosine" else schedule.linear(T, 0.1 / T, 20 / T)
    head_channels, heads, legacy = options["head_channels"], options["heads"], not flags["use_new_attention_order"]
    own = dict(_converted(weights, options, lambda C: heads if head_channels is None else C // head_channels, legacy))
    network = filled(lambda: UNet2D(**options, dropout=flags["dropout"]), own, path)
    height, width = size(flags["image_size"] if image_size is None else image_size)
    model = Denoiser(
        network,
        noise,
        "x0" if flags["predict_xstart"] else "eps",
        (options["channels"], height, width),
        options["classes"],
        indexed=True,
        sampling=Sampling(min(STEPS, T), "ddim", 0.0, "leading"),
    )
    if options["classes"] is not None:
        model.null_class = False
    return model.eval()


def _flags(path: Path) -> dict[str, Any]:
    if not path.is_file():
        taken = ", ".join(f"{name} = {FLAGS[name]}" for name in ("num_heads", "diffusion_steps", "noise_schedule"))
        text = (
            f"There is no {path.name} with the flags of the training; guided-diffusion's defaults are taken: {taken}."
        )
        warnings.warn(text, Notice, stacklevel=5)
        return dict(FLAGS)
    try:
        table = read_table(path)
    except OSError as error:
        raise unreadable(path, error, "copy it again") from error
    except ValueError as error:
        raise UserError(
            f"{path} is not a JSON table of flags of guided-diffusion; correct it, or move it away."
        ) from error
    known = {name: value for name, value in table.items() if name not in TOLD}
    try:
        if unknown := sorted(known.keys() - FLAGS.keys()):
            raise UserError(f"ddim does not know its flag {unknown[0]} = {known[unknown[0]]!r:.60}.")
        flags = {**FLAGS, **known}
        for name, values in NEEDED.items():
            if flags[name] not in values:
                raise UserError(f"{name} is {flags[name]!r:.60}, and ddim reads {', '.join(map(repr, values))}.")
        flags["diffusion_steps"] = number("diffusion_steps", flags["diffusion_steps"], int, 21, LONGEST)
        flags["num_heads"] = number("num_heads", flags["num_heads"], int, 1, 1024)
        flags["num_head_channels"] = number("num_head_channels", flags["num_head_channels"], int, -1, 2**16)
        flags["dropout"] = number("dropout", flags["dropout"], float, 0, 1)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    return flags


def _options(weights: Mapping[str, Tensor], flags: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the arguments of the `UNet2D` with the layers of these weights, but the dropout."""

    def side(name: str, i: int) -> int:
        if name not in weights or weights[name].ndim <= i:
            raise UserError(f"{path} lacks {name}; give a whole state dict of improved-diffusion or guided-diffusion.")
        return weights[name].shape[i]

    def count(part: str) -> int:
        return 1 + max(
            (int(found[1]) for name in weights if (found := re.match(rf"{part}\.(\d{{1,3}})\.", name))), default=0
        )

    # On the way up, the last block of each stage but the last ends with a layer that doubles the resolution.
    ends = r"output_blocks\.(\d{1,3})\.[12]\.(conv|in_layers\.2)\.weight"
    found = [(int(match[1]), match[2]) for name in weights if (match := re.fullmatch(ends, name))]
    blocks = min(found)[0] if found else count("output_blocks") - 1
    stages = max(1, count("output_blocks") // (blocks + 1))
    firsts = [1 + i * (blocks + 1) for i in range(stages)]
    channels, outputs = side("input_blocks.0.0.weight", 1), side("out.2.weight", 0)
    if outputs not in (channels, 2 * channels):
        raise UserError(f"The network of {path} takes {channels} channels and returns {outputs}; ddim cannot read it.")
    widths = [side(f"input_blocks.{first}.0.in_layers.2.weight", 0) for first in firsts]
    attention = [i for i, first in enumerate(firsts) if f"input_blocks.{first}.1.qkv.weight" in weights]
    per_head = flags["num_head_channels"]
    name, divisor = ("num_heads", flags["num_heads"]) if per_head == -1 else ("num_head_channels", per_head)
    for C in (*(widths[i] for i in attention), widths[-1]):
        if not divisor or C % divisor:
            raise UserError(f"{name} is {divisor}, which does not divide the {C} channels of an attention of {path}.")
    return {
        "channels": channels,
        "widths": widths,
        "blocks": blocks,
        "attention": attention,
        "head_channels": None if per_head == -1 else per_head,
        "heads": flags["num_heads"],
        "residual_resampling": bool(found) and min(found)[1] != "conv",
        "scale_shift": side("input_blocks.1.0.emb_layers.1.weight", 0) == 2 * widths[0],
        "time_scale": 1000 / flags["diffusion_steps"] if flags["rescale_timesteps"] else 1.0,
        "features": side("time_embed.0.weight", 0),
        "classes": side("label_emb.weight", 0) if "label_emb.weight" in weights else None,
    }


def _converted(
    weights: Mapping[str, Tensor], options: dict[str, Any], heads: Any, legacy: bool
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights by their names in `unet2d`; a name that it does not have stays."""
    homes = dict(_homes(len(options["widths"]), options["blocks"], options["attention"]))
    for name, value in weights.items():
        prefix = next((".".join(parts) for n in (3, 2, 1) if ".".join(parts := name.split(".")[:n]) in homes), None)
        if prefix is None:
            yield name, value
            continue
        rest = renamed(name[len(prefix) + 1 :], BLOCK)
        if prefix == "out.2" and len(value) == 2 * options["channels"]:
            value = value.chunk(2)[0]  # the other half predicts a variance
        if rest.startswith("qkv."):
            value = value.squeeze(-1) if value.ndim == 3 else value
            C = len(value) // 3
            rows = value.reshape(heads(C) if legacy else 1, 3, -1, *value.shape[1:])
            for i, letter in enumerate("qkv"):
                yield f"{homes[prefix]}.to_{letter}.{rest[4:]}", rows[:, i].flatten(0, 1)
        else:
            yield (
                f"{homes[prefix]}.{rest}",
                value.squeeze(-1) if rest == "to_out.0.weight" and value.ndim == 3 else value,
            )


def _homes(stages: int, blocks: int, attention: list[int]) -> Iterator[tuple[str, str]]:
    """Yield the prefix of each layer in a `UNetModel`, and that in `unet2d`."""
    yield from {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb": "class_embedding",
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }.items()
    for i in range(stages):
        first, stage = 1 + i * (blocks + 1), f"down_blocks.{i}"
        for j in range(blocks):
            yield f"input_blocks.{first + j}.0", f"{stage}.resnets.{j}"
            yield f"input_blocks.{first + j}.1", f"{stage}.attentions.{j}"
        yield f"input_blocks.{first + blocks}.0", f"{stage}.downsamplers.0"
        first, stage, attends = i * (blocks + 1), f"up_blocks.{i}", stages - 1 - i in attention
        for j in range(blocks + 1):
            yield f"output_blocks.{first + j}.0", f"{stage}.resnets.{j}"
            if attends:
                yield f"output_blocks.{first + j}.1", f"{stage}.attentions.{j}"
        yield f"output_blocks.{first + blocks}.{1 + attends}", f"{stage}.upsamplers.0"
