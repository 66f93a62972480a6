"""The `config.json` of diffusers' `UNet2DConditionModel`, where no block reads text."""

from typing import Any

from ddim.errors import UserError
from ddim.interop.unet2d import DEFAULTS, NEEDED, translated

ELSEWHERE = ("downsample_type", "upsample_type", "attn_norm_num_groups", "add_attention", "num_train_timesteps")
"""Fields of `UNet2DModel` that `UNet2DConditionModel` does not have."""
NULL: dict[str, Any] = dict.fromkeys(
    (
        *("num_attention_heads", "addition_embed_type", "encoder_hid_dim", "encoder_hid_dim_type"),
        *("time_embedding_act_fn", "timestep_post_act", "time_cond_proj_dim"),
    )
)
ONLY: dict[str, Any] = {
    **NULL,
    **dict.fromkeys(("conv_in_kernel", "conv_out_kernel"), 3),
    **dict.fromkeys(("resnet_skip_time_act", "class_embeddings_concat"), False),
    "resnet_out_scale_factor": 1.0,
}
"""Fields with their defaults, which are the only values that ddim has."""
FIELDS: dict[str, Any] = {
    **{name: value for name, value in DEFAULTS.items() if name not in ELSEWHERE},
    **ONLY,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [320, 640, 1280, 1280],
}
"""The fields that decide what a network without text computes, with their defaults."""
TEXT = (
    *("only_cross_attention", "cross_attention_dim", "transformer_layers_per_block", "dual_cross_attention"),
    *("reverse_transformer_layers_per_block", "use_linear_projection", "addition_time_embed_dim", "upcast_attention"),
    *("projection_class_embeddings_input_dim", "attention_type", "mid_block_only_cross_attention"),
    *("cross_attention_norm", "addition_embed_type_num_heads"),
)
"""Fields that decide nothing without text."""
MIDDLES = {None: 0, "UNetMidBlock2D": 1}
"""The blocks at the bottom that ddim has, and their residual blocks: neither attends here."""


def options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ddim.nets.UNet2D` for a config of `UNet2DConditionModel` without cross-attention.

    Raises:
        UserError: a block that reads text, a field that is unknown, or a value that ddim cannot express; each is named.
    """
    known = {key: value for key, value in config.items() if not key.startswith("_") and key not in TEXT}
    if unknown := sorted(known.keys() - FIELDS.keys()):
        raise UserError(f"ddim does not know its field {unknown[0]} = {known[unknown[0]]!r:.60}.")
    field = {**FIELDS, **known}
    for key in ("down_block_types", "up_block_types", "mid_block_type"):
        named = [field[key]] if isinstance(field[key], str) else field[key] or []
        if crossing := [name for name in named if "Cross" in str(name)]:
            raise UserError(f"{key} has {crossing[0]!r:.60}, which reads text, and ddim has no text.")
    allowed = {**NEEDED, **{key: (value,) for key, value in ONLY.items()}, "mid_block_type": tuple(MIDDLES)}
    for key, values in allowed.items():
        if key in field and field[key] not in values:
            raise UserError(f"{key} is {field[key]!r:.60}, and ddim reads {', '.join(map(repr, values))}.")
    bare = {**DEFAULTS, **{key: value for key, value in field.items() if key in DEFAULTS}, "add_attention": False}
    return {**translated(bare), "middle_blocks": MIDDLES[field["mid_block_type"]]}
