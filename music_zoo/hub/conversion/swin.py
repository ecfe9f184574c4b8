"""Checkpoints of Swin Transformers (microsoft/Swin-Transformer), state dicts of PyTorch."""

import re

import numpy as np

from music_zoo.hub.conversion.table import Table


def _merging(part: str):
    """A stage begins with what the original has at the end of the one before."""
    return lambda match: f"layers.{int(match[1]) - 1}.downsample.{part}"


def _block(part: str):
    def name(match: re.Match) -> str:
        return match.expand(rf"layers.\1.blocks.\2.{part}")

    return name


def swin_table(rows: int) -> Table:
    """Return the table of a network whose image has so many rows of patches.

    Args:
        rows: Only needed for absolute positions, which the original keeps in one row of tokens.
    """

    def positions(table: np.ndarray) -> np.ndarray:
        return table.reshape(rows, -1, table.shape[-1])

    block = r"backbone\.stage(\d+)_block(\d+)_"
    return Table(
        {
            r"backbone\.patch_conv": "patch_embed.proj",
            r"backbone\.patch_norm": "patch_embed.norm",
            rf"{block}norm(\d)": _block(r"norm\3"),
            rf"{block}attention\.attention\.qkv": _block("attn.qkv"),
            rf"{block}attention\.attention\.output": _block("attn.proj"),
            rf"{block}mlp(\d)": _block(r"mlp.fc\3"),
            r"backbone\.stage(\d+)_merging_norm": _merging("norm"),
            r"backbone\.stage(\d+)_merging_dense": _merging("reduction"),
            r"backbone\.norm": "norm",
            "head": "head",
        },
        {
            rf"{block}attention\.bias_table": (
                (_block("attn.relative_position_bias_table"),),
                lambda table: table,
            ),
            r"backbone\.positions\.table": (("absolute_pos_embed",), positions),
        },
        constants=(r".*\.attn_mask$", r".*\.relative_position_index$"),
    )


TABLES = {"swin": swin_table(rows=32)}
