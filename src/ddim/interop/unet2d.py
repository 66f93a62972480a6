"""The `config.json` of diffusers' `UNet2DModel`, and ddim's networks `unet2d` and `unet` as such a model."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ddim.errors import UserError, number
from ddim.interop.weights import renamed
from ddim.nets.unet import UNet
from ddim.nets.unet2d import UNet2D

BLOCKS = {"DownBlock2D": False, "AttnDownBlock2D": True, "UpBlock2D": False, "AttnUpBlock2D": True}
"""Blocks that ddim has, and whether they attend."""
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,  # of learned embeddings alone
}
"""The fields of `UNet2DModel` with their defaults, which older files leave out."""
NEEDED: dict[str, tuple[Any, ...]] = {
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
    **dict.fromkeys(("add_attention", "center_input_sample", "flip_sin_to_cos"), (True, False)),
}
"""The values that ddim has for a field."""

NAMES = (
    (r"^stem\.", "conv_in."),
    (r"^condition\.time\.0\.", "time_embedding.linear_1."),
    (r"^condition\.time\.2\.", "time_embedding.linear_2."),
    (r"^(down|up)\.(\d+)\.blocks\.(\d+)\.residual\.", r"\1_blocks.\2.resnets.\3."),
    (r"^(down|up)\.(\d+)\.blocks\.(\d+)\.attention\.", r"\1_blocks.\2.attentions.\3."),
    (r"^down\.(\d+)\.shrink\.", r"down_blocks.\1.downsamplers.0.conv."),
    (r"^up\.(\d+)\.grow\.", r"up_blocks.\1.upsamplers.0.conv."),
    (r"^middle\.first\.residual\.", "mid_block.resnets.0."),
    (r"^middle\.first\.attention\.", "mid_block.attentions.0."),
    (r"^middle\.second\.", "mid_block.resnets.1."),
    (r"^head\.0\.", "conv_norm_out."),
    (r"^head\.2\.", "conv_out."),
    (r"\.embed\.", ".time_emb_proj."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.out\.", r"\1.to_out.0."),
)
"""Patterns of the names of `unet`'s weights and what replaces them, in this order."""
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of an attention's layers before diffusers 0.12."""

REMEDY = "train a model for diffusers with --network unet2d --size small"


def options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ddim.nets.UNet2D` for a config of `UNet2DModel`, `channels` among them.

    Raises:
        UserError: a field that is unknown, or a value that ddim cannot express; each is named.
    """
    known = {key: value for key, value in config.items() if not key.startswith("_")}
    if unknown := sorted(known.keys() - DEFAULTS.keys()):
        raise UserError(f"ddim does not know its field {unknown[0]} = {known[unknown[0]]!r:.60}.")
    field = {**DEFAULTS, **known}
    for key, values in NEEDED.items():
        if field[key] not in values:
            raise UserError(f"{key} is {field[key]!r:.60}, and ddim reads {', '.join(map(repr, values))}.")
    return translated(field)


def translated(field: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ddim.nets.UNet2D` for all fields of a config. Raises `UserError` as `options` does."""
    channels = number("in_channels", field["in_channels"], int, 1, 64)
    if field["out_channels"] != channels:
        raise UserError(
            f"out_channels is {field['out_channels']!r:.60} and in_channels is {channels}; ddim needs one number for "
            "each number of the image, without a variance."
        )
    stages = [_attention(field, key) for key in ("down_block_types", "up_block_types")]
    down, up = stages[0], stages[1][::-1]
    widths = field["block_out_channels"]
    if not isinstance(widths, list | tuple) or not len(widths) == len(down) == len(up):
        raise UserError(
            f"block_out_channels, down_block_types and up_block_types describe {len(widths)}, {len(down)} and "
            f"{len(up)} stages; they must be equally many."
        )
    scale_shift = field["resnet_time_scale_shift"] == "scale_shift"
    bottom = field["attn_norm_num_groups"]
    return {
        "channels": channels,
        "widths": list(widths),
        "blocks": field["layers_per_block"],
        "attention": [i for i, attends in enumerate(down) if attends],
        "up_attention": [i for i, attends in enumerate(up) if attends],
        "middle_attention": bool(field["add_attention"]),
        "head_channels": field["attention_head_dim"],
        "groups": field["norm_num_groups"],
        "middle_groups": (0 if scale_shift else None) if bottom is None else bottom,
        "eps": number("norm_eps", field["norm_eps"], float, 0),
        "padding": field["downsample_padding"],
        "scale_shift": scale_shift,
        "dropout": number("dropout", field["dropout"], float, 0, 1),
        "centre": bool(field["center_input_sample"]),
        "cos_first": bool(field["flip_sin_to_cos"]),
        "frequency_shift": number("freq_shift", field["freq_shift"], float, 0),
        "features": field["time_embedding_dim"],
        "classes": field["num_class_embeds"],
    }


def modern(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the names that the layers of an attention have since diffusers 0.12, as matrices."""
    found = {}
    for name, value in weights.items():
        if ".attentions." in name:
            name = re.sub(r"\.(query|key|value|proj_attn)\.", lambda old: f".{OLD[old[1]]}.", name)
            value = value[:, :, 0, 0] if value.ndim == 4 else value
        found[name] = value
    return found


def expressed(network: nn.Module, shape: tuple[int, ...], indexed: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config and the weights of the `UNet2DModel` that computes what a network of ddim does.

    The `UNet2DModel` sees 0-based indices: for a network that sees t = index + 1, the first layer of the time is
    multiplied by the rotation of each frequency's (sin, cos) by one step, so its output is the same. Classes are left
    out; the embedding of one of them can be added by `with_class`.

    Args:
        network: a `UNet2D` or a `UNet`.
        shape: (C, H, W) of the images.
        indexed: whether the network itself sees indices.

    Raises:
        UserError: another network, or one with an option that `UNet2DModel` does not have; it is named.
    """
    if isinstance(network, UNet2D):
        made, weights = dict(network.config), network.state_dict()  # type: ignore[arg-type]
        made["up_attention"] = made["attention"] if made["up_attention"] is None else made["up_attention"]
        for option, only in (("middle_blocks", 2), ("residual_resampling", False), ("time_scale", 1.0)):
            if made[option] != only:
                raise UserError(f"UNet2DModel has no {option} = {made[option]!r}; export the model to onnx or torch.")
        if made["heads"] != 1 and made["head_channels"] is None:
            raise UserError("UNet2DModel has no number of heads without head_channels; export to onnx or torch.")
        if made["middle_groups"] == 0 and not made["scale_shift"]:
            raise UserError("UNet2DModel has no attention without a norm (middle_groups = 0) without scale_shift.")
    elif isinstance(network, UNet):
        made, weights = _from_unet(network)
    else:
        raise UserError(
            f"UNet2DModel cannot express the network {getattr(network, 'config', {}).get('name', 'custom')!r} "
            f"({type(network).__name__}), only unet2d and unet; {REMEDY}."
        )
    stages = len(made["widths"])
    if any(side % 2 ** (stages - 1) for side in shape[1:]):
        raise UserError(
            f"UNet2DModel halves each side {stages - 1} times without a remainder, and the images are "
            f"{' x '.join(map(str, shape[1:]))}."
        )
    weights = {name: value.detach().cpu() for name, value in weights.items() if not name.startswith("class_embedding")}
    if not indexed:
        first = weights["time_embedding.linear_1.weight"]
        turn = _turn(made["widths"][0], made["cos_first"], made["frequency_shift"])
        weights["time_embedding.linear_1.weight"] = (first.double() @ turn).to(first.dtype)
    down = ["AttnDownBlock2D" if i in made["attention"] else "DownBlock2D" for i in range(stages)]
    up = ["AttnUpBlock2D" if i in made["up_attention"] else "UpBlock2D" for i in reversed(range(stages))]
    shift, bottom = made["frequency_shift"], made["middle_groups"]
    fields = {
        "sample_size": shape[1] if shape[1] == shape[2] else list(shape[1:]),
        "in_channels": made["channels"],
        "out_channels": made["channels"],
        "center_input_sample": made["centre"],
        "time_embedding_dim": made["features"],
        "freq_shift": int(shift) if float(shift).is_integer() else shift,
        "flip_sin_to_cos": made["cos_first"],
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": list(made["widths"]),
        "layers_per_block": made["blocks"],
        "downsample_padding": made["padding"],
        "dropout": made["dropout"],
        "attention_head_dim": made["head_channels"],
        "norm_num_groups": made["groups"],
        "attn_norm_num_groups": (made["groups"] if bottom is None else bottom or None)
        if made["scale_shift"]
        else bottom,
        "norm_eps": made["eps"],
        "resnet_time_scale_shift": "scale_shift" if made["scale_shift"] else "default",
        "add_attention": made["middle_attention"],
    }
    return {"_class_name": "UNet2DModel", **DEFAULTS, **fields}, weights


def with_class(weights: Mapping[str, Tensor], embedding: Tensor | None) -> dict[str, Tensor]:
    """Return weights that always see one class: its embedding, None is none, goes into the bias of the time's."""
    name = "time_embedding.linear_2.bias"
    return {**weights} if embedding is None else {**weights, name: weights[name] + embedding.detach().cpu()}


def _attention(field: dict[str, Any], key: str) -> list[bool]:
    for name in field[key]:
        if name not in BLOCKS:
            raise UserError(f"{key} has {name!r:.60}, and ddim reads {', '.join(BLOCKS)}.")
    return [BLOCKS[name] for name in field[key]]


def _from_unet(network: UNet) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options of the `UNet2D` that computes what a `UNet` does, and its weights without the classes'."""
    made: dict[str, Any] = dict(network.config)  # type: ignore[arg-type]
    if made["fold"] != 1:
        raise UserError(
            f"UNet2DModel has no folding of pixels into channels, and the network has fold = {made['fold']}; {REMEDY}."
        )
    norms = sorted({(one.num_channels, one.num_groups) for one in network.modules() if isinstance(one, nn.GroupNorm)})
    if len({groups for _, groups in norms}) > 1:
        counts = ", ".join(f"{groups} for {channels} channels" for channels, groups in norms)
        raise UserError(
            f"UNet2DModel has one number of groups for all norms (norm_num_groups), and the network has {counts}; "
            f"{REMEDY}."
        )
    options = {
        "channels": made["channels"],
        "widths": [made["width"] * multiplier for multiplier in made["multipliers"]],
        "blocks": made["blocks"],
        "attention": made["attention"],
        "up_attention": made["attention"],
        "middle_attention": True,
        "head_channels": None,
        "groups": norms[0][1],
        "middle_groups": None,
        "eps": 1e-5,
        "padding": 1,
        "scale_shift": made["scale_shift"],
        "dropout": made["dropout"],
        "centre": False,
        "cos_first": False,
        "frequency_shift": 1,
        "features": 4 * made["width"],
    }
    return options, converted(network)


def converted(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a `UNet` by the names of `UNet2DModel`, without those of the classes."""
    weights: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        name = renamed(name, NAMES)
        if "attentions" in name and value.ndim == 4:
            value = value[:, :, 0, 0]  # a 1x1 convolution is a linear layer
        if ".qkv." in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                weights[name.replace("qkv", f"to_{letter}")] = part
        elif not name.startswith("condition."):
            weights[name] = value
    return weights


def _turn(width: int, cos_first: bool, shift: float) -> Tensor:
    """Return R with sinusoid(i + 1) = R sinusoid(i), (width, width) float64: sin(a + f) = cos f sin a + sin f cos a."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / (half - shift)).double()
    cos, sin = frequencies.cos().diag(), frequencies.sin().diag()
    rows = [[cos, -sin], [sin, cos]] if cos_first else [[cos, sin], [-sin, cos]]
    return torch.cat([torch.cat(row, dim=1) for row in rows])
