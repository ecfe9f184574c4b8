"""Checkpoints of the multi-view study (deezer/multi-view-ssl-benchmark), state dicts of PyTorch."""

import numpy as np

from music_zoo.hub.conversion.table import Table, channels_last, same

_POOLING = r"backbone\.attention_pooling\."


def _block(part: str):
    """Stages count from 1 in the original."""
    return lambda match: f"embedding.layer{int(match[1]) + 1}.{match[2]}.{part.format(*match.groups())}"


def _joined(make):
    """Query, key and value, which the original keeps apart, in one."""
    return lambda *parts: make(np.concatenate(parts))


def _projections(leaf: str) -> tuple[str, ...]:
    return tuple(f"embedding.attnpool.{part}_proj.{leaf}" for part in "qkv")


TABLES = {
    "multi-view-resnet": Table(
        {
            r"backbone\.stem(\d)_conv": r"embedding.conv\1",
            r"backbone\.stem(\d)_norm": r"embedding.bn\1",
            r"backbone\.stage(\d)_block(\d)_(\d)_conv": _block("conv{2}"),
            r"backbone\.stage(\d)_block(\d)_(\d)_norm": _block("bn{2}"),
            r"backbone\.stage(\d)_block(\d)_shortcut_conv": _block("downsample.0"),
            r"backbone\.stage(\d)_block(\d)_shortcut_norm": _block("downsample.1"),
            rf"{_POOLING}attention\.output": "embedding.attnpool.c_proj",
        },
        {
            rf"{_POOLING}positions": (("embedding.attnpool.positional_embedding",), same),
            rf"{_POOLING}attention\.qkv\.kernel": (_projections("weight"), _joined(channels_last)),
            rf"{_POOLING}attention\.qkv\.bias": (_projections("bias"), _joined(same)),
        },
        # Of a training checkpoint, the network that its authors evaluate; the rest was there to train it.
        rename=((r"^(student\.)?(module\.)?backbone\.", ""),),
        constants=(r"spec\.", r"(student\.)?(module\.)?(head|projector)\.", r"teacher\."),
    )
}
