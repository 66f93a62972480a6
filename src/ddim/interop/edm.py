"""State dicts of EDM's networks (NVlabs/edm): an `EDMPrecond` of a `DhariwalUNet`, as its ImageNet models are."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ddim import schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import user_path
from ddim.interop.diffusers import ImageSize
from ddim.interop.weights import filled, read, reads, renamed, tensors
from ddim.nets.preconditioned import Preconditioned
from ddim.nets.unet2d import UNet2D
from ddim.sampling import Sampling

STEPS = 18  # of EDM's sampler by default
HEAD = 64  # channels of an attention head
STEM = re.compile(r"enc\.(\d{1,4})x\1_conv\.weight")
BLOCK = (
    (r"^norm1\.", "norm2."),
    (r"^norm0\.", "norm1."),
    (r"^conv1\.", "conv2."),
    (r"^conv0\.", "conv1."),
    (r"^affine\.", "time_emb_proj."),
    (r"^skip\.", "conv_shortcut."),
)
ATTENTION = ((r"^norm2\.", "group_norm."), (r"^proj\.", "to_out.0."))
"""Patterns of the names of a block's weights, and of its attention's, and what replaces them, in this order."""


def is_edm(content: Any) -> bool:
    """Return whether the content of a file has the layout of EDM's networks, with its preconditioning or without."""
    return isinstance(content, Mapping) and any(
        isinstance(name, str) and STEM.fullmatch(name.removeprefix("model.")) for name in content
    )


@reads("EDM")
def from_edm(path: str | Path, *, raw: bool = False, image_size: ImageSize = None, content: Any = None) -> Denoiser:
    """Return the model of a state dict of EDM's `DhariwalUNet`, in eval mode on the CPU.

    The layers and the size of the images follow from the weights. The schedule is EDM's, from sigma = 0.002 to 80, and
    sigma_data is 0.5. The model samples by Heun's method in 18 steps on EDM's levels, as EDM's program does. The files
    that NVlabs published are pickles of whole networks, with code in them, and are refused: save its `state_dict()`.

    Args:
        path: a state dict of the network, or of its `EDMPrecond`, by PyTorch or safetensors.
        raw: must be False, as a file holds one set of weights.
        image_size: must be None, as the weights tell it.
        content: of the file, if it has been read.

    Raises:
        UserError: the file is missing, damaged or refused, is of another layout, or of a `SongUNet`.
    """
    path = user_path(path)
    if raw or image_size is not None:
        raise UserError(
            f"{path} holds one set of weights and tells the size of its images; leave out raw and image_size."
        )
    content = read(path) if content is None else content
    if not is_edm(content):
        raise UserError(f"{path} is no state dict of EDM's networks; it has no weights of a layer enc.*_conv.")
    named = {name.removeprefix("model."): value for name, value in tensors(content, path).items()}
    weights = {name: value for name, value in named.items() if not name.endswith("resample_filter")}
    if "out_norm.weight" not in weights or "map_layer0.weight" not in weights:
        raise UserError(
            f"{path} holds a SongUNet (DDPM++ or NCSN++), whose residual blocks are scaled by sqrt(1 / 2); ddim has "
            "DhariwalUNet alone; wrap the module itself: ddim.Denoiser(network, ddim.schedule.edm(), 'x0', shape)."
        )
    weights.pop("map_augment.weight", None)  # without augmentation it adds nothing
    side, options = _options(weights, path)
    network = filled(lambda: UNet2D(**options), dict(_converted(weights, side, options)), path)
    shape, classes = (options["channels"], side, side), options["classes"]
    sampling = Sampling(STEPS, "heun", None, "karras", clip=False)
    model = Denoiser(Preconditioned(network), schedule.edm(), "x0", shape, classes, sampling=sampling)
    if classes is not None:
        model.null_class = False
    return model.eval()


def _options(weights: Mapping[str, Tensor], path: Path) -> tuple[int, dict[str, Any]]:
    """Return the side of the images, and the arguments of the `UNet2D` with the layers of these weights."""
    sides = sorted(
        {int(found[1]) for name in weights if (found := re.match(r"enc\.(\d{1,4})x\1_", name))}, reverse=True
    )
    blocks = sum(
        re.fullmatch(rf"enc\.{sides[0]}x{sides[0]}_block\d+\.conv0\.weight", name) is not None for name in weights
    )
    last = f"block{blocks - 1}.conv1.weight"
    missing = [name for one in sides if (name := f"enc.{one}x{one}_{last}") not in weights]
    if missing:
        raise UserError(f"{path} lacks {missing[0]}; give a whole state dict of a DhariwalUNet.")
    widths = [len(weights[f"enc.{one}x{one}_{last}"]) for one in sides]
    norms = {min(32, len(value) // 4) for name, value in weights.items() if re.search(r"norm\d?\.weight$", name)}
    if len(norms) > 1:
        raise UserError(
            f"The norms of {path} have {sorted(norms)} groups, and a unet2d has one number of groups for all."
        )
    label = weights.get("map_label.weight")
    return sides[0], {
        "channels": weights[f"enc.{sides[0]}x{sides[0]}_conv.weight"].shape[1],
        "widths": widths,
        "blocks": blocks,
        "attention": [i for i, one in enumerate(sides) if f"enc.{one}x{one}_block0.qkv.weight" in weights],
        "head_channels": HEAD,
        "groups": norms.pop(),
        "residual_resampling": True,
        "scale_shift": True,
        "features": len(weights["map_layer0.weight"]),
        "classes": None if label is None else label.shape[1],
    }


def _converted(weights: Mapping[str, Tensor], side: int, options: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights by their names in `unet2d`; a name that it does not have stays."""
    homes = dict(_homes(side, len(options["widths"]), options["blocks"]))
    for name, value in weights.items():
        prefix = next((".".join(parts) for n in (2, 1) if ".".join(parts := name.split(".")[:n]) in homes), "")
        rest, home = name[len(prefix) + 1 :], homes.get(prefix, "")
        if prefix == "map_label":
            yield f"{home}.weight", value.T
        elif re.match(r"(norm2|qkv|proj)\.", rest):
            home = home.replace("resnets", "attentions")
            value = value[:, :, 0, 0] if value.ndim == 4 else value
            if rest.startswith("qkv."):
                rows = value.reshape(-1, HEAD, 3, *value.shape[1:])  # heads, channels, q k v
                for i, letter in enumerate("qkv"):
                    yield f"{home}.to_{letter}.{rest[4:]}", rows[:, :, i].flatten(0, 1)
            else:
                yield f"{home}.{renamed(rest, ATTENTION)}", value
        else:
            yield f"{home}.{renamed(rest, BLOCK)}" if home else name, value


def _homes(side: int, stages: int, blocks: int) -> Iterator[tuple[str, str]]:
    """Yield the prefix of each layer in a `DhariwalUNet`, and that in `unet2d`."""
    names = [f"{side >> i}x{side >> i}" for i in range(stages)]
    yield from {
        "map_layer0": "time_embedding.linear_1",
        "map_layer1": "time_embedding.linear_2",
        "map_label": "class_embedding",
        f"enc.{names[0]}_conv": "conv_in",
        f"dec.{names[-1]}_in0": "mid_block.resnets.0",
        f"dec.{names[-1]}_in1": "mid_block.resnets.1",
        "out_norm": "conv_norm_out",
        "out_conv": "conv_out",
    }.items()
    for i, name in enumerate(names):
        up = stages - 1 - i
        if i:
            yield f"enc.{name}_down", f"down_blocks.{i - 1}.downsamplers.0"
        if up:
            yield f"dec.{name}_up", f"up_blocks.{up - 1}.upsamplers.0"
        for j in range(blocks + 1):
            yield f"enc.{name}_block{j}", f"down_blocks.{i}.resnets.{j}"
            yield f"dec.{name}_block{j}", f"up_blocks.{up}.resnets.{j}"
