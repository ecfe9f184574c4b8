"""Checkpoints of Swin Transformers (microsoft/Swin-Transformer), state dicts of PyTorch."""

import numpy as np

from music_zoo.hub.conversion.table import Table, same


def _merging(part: str):
    """A stage begins with what the original has at the end of the one before."""
    return lambda match: f"layers.{int(match[1]) - 1}.downsample.{part}"


def _positions(table: np.ndarray) -> np.ndarray:
    """One row of tokens to the image they come from: 128 bands in patches of 4."""
    return table.reshape(32, -1, table.shape[-1])


_BLOCK = r"backbone\.stage(\d+)_block(\d+)_"
_THEIR_BLOCK = r"layers.\1.blocks.\2."

TABLES = {
    "swin": Table(
        {
            r"backbone\.patch_conv": "patch_embed.proj",
            r"backbone\.patch_norm": "patch_embed.norm",
            rf"{_BLOCK}norm(\d)": rf"{_THEIR_BLOCK}norm\3",
            rf"{_BLOCK}attention\.attention\.qkv": rf"{_THEIR_BLOCK}attn.qkv",
            rf"{_BLOCK}attention\.attention\.output": rf"{_THEIR_BLOCK}attn.proj",
            rf"{_BLOCK}mlp(\d)": rf"{_THEIR_BLOCK}mlp.fc\3",
            r"backbone\.stage(\d+)_merging_norm": _merging("norm"),
            r"backbone\.stage(\d+)_merging_dense": _merging("reduction"),
            r"backbone\.norm": "norm",
            "head": "head",
        },
        {
            rf"{_BLOCK}attention\.bias_table": ((rf"{_THEIR_BLOCK}attn.relative_position_bias_table",), same),
            r"backbone\.positions\.table": (("absolute_pos_embed",), _positions),
        },
        constants=(r".*\.attn_mask$", r".*\.relative_position_index$"),
    )
}
