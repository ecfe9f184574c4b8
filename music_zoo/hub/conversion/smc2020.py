"""Checkpoints of Won et al. (SMC 2020, minzwon/sota-music-tagging-models), state dicts of PyTorch."""

import numpy as np

from music_zoo.hub.conversion.table import Table, same

# The window and the filter bank, which the front end computes itself.
_CONSTANTS = (r"spec\.", r"hstft\.spec\.")
_LAYERS = {
    r"backbone\.input_norm": "spec_bn",
    r"backbone\.layer(\d+)_conv": r"layer\1.conv",
    r"backbone\.layer(\d+)_norm": r"layer\1.bn",
    r"backbone\.layer(\d+)_conv_(\d)": r"layer\1.conv_\2",
    r"backbone\.layer(\d+)_norm_(\d)": r"layer\1.bn_\2",
}
_DENSE_BLOCK = {r"backbone\.dense": "dense1", r"backbone\.dense_norm": "bn", "head": "dense2"}


def _gates(weights: np.ndarray) -> np.ndarray:
    """PyTorch's rows (reset, update, new) to Keras' columns (update, reset, new)."""
    reset, update, new = np.split(weights, 3)
    return np.concatenate([update, reset, new]).T


def _gate_biases(inputs: np.ndarray, recurrent: np.ndarray) -> np.ndarray:
    return np.stack([_gates(inputs), _gates(recurrent)])


def _qkv(leaf: str) -> tuple[str, ...]:
    """Names of the three parts of what we keep in one."""
    return tuple(rf"encoder.layer.\1.attention.self.{part}.{leaf}" for part in ("query", "key", "value"))


def _joined(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts).T


TABLES = {
    "fcn": Table(_LAYERS | {"head": "dense"}, constants=_CONSTANTS),
    "crnn": Table(
        _LAYERS | {"head": "dense"},
        {
            r"backbone\.gru_(\d)\.gru_cell\.kernel": ((r"layer5.weight_ih_l\1",), _gates),
            r"backbone\.gru_(\d)\.gru_cell\.recurrent_kernel": ((r"layer5.weight_hh_l\1",), _gates),
            r"backbone\.gru_(\d)\.gru_cell\.bias": (
                (r"layer5.bias_ih_l\1", r"layer5.bias_hh_l\1"),
                _gate_biases,
            ),
        },
        constants=_CONSTANTS,
    ),
    "musicnn-won": Table(
        {
            r"backbone\.input_norm": "spec_bn",
            r"backbone\.timbral(\d)_conv": r"layers.\1.conv",
            r"backbone\.timbral(\d)_norm": r"layers.\1.bn",
            r"backbone\.temporal(\d)_conv": lambda match: f"layers.{int(match[1]) + 2}.conv",
            r"backbone\.temporal(\d)_norm": lambda match: f"layers.{int(match[1]) + 2}.bn",
            r"backbone\.mid(\d)_conv": lambda match: f"layer{int(match[1]) + 1}.conv",
            r"backbone\.mid(\d)_norm": lambda match: f"layer{int(match[1]) + 1}.bn",
        }
        | _DENSE_BLOCK,
        constants=_CONSTANTS,
    ),
    "short-chunk": Table(_LAYERS | _DENSE_BLOCK, constants=_CONSTANTS),
    "harmonic-cnn": Table(
        _LAYERS
        | {
            r"backbone\.input_norm": "hstft_bn",
            r"backbone\.layer(\d+)_block_conv_(\d)": r"layer\1.conv_\2",
            r"backbone\.layer(\d+)_block_norm_(\d)": r"layer\1.bn_\2",
        }
        | _DENSE_BLOCK,
        {r"front_end\.harmonic_filter_bank\.quality": (("hstft.bw_Q",), same)},
        constants=_CONSTANTS,
    ),
    "self-attention-cnn": Table(
        _LAYERS
        | {
            r"backbone\.encoder(\d)_attention\.output": r"encoder.layer.\1.attention.output.dense",
            r"backbone\.encoder(\d)_attention_norm": r"encoder.layer.\1.attention.output.LayerNorm",
            r"backbone\.encoder(\d)_dense1": r"encoder.layer.\1.intermediate.dense",
            r"backbone\.encoder(\d)_dense2": r"encoder.layer.\1.output.dense",
            r"backbone\.encoder(\d)_dense_norm": r"encoder.layer.\1.output.LayerNorm",
            r"backbone\.pooler": "pooler.dense",
            "head": "dense",
        },
        {
            r"backbone\.encoder(\d)_attention\.qkv\.kernel": (_qkv("weight"), _joined),
            r"backbone\.encoder(\d)_attention\.qkv\.bias": (_qkv("bias"), _joined),
        },
        constants=_CONSTANTS,
    ),
    "sample-cnn": Table(_LAYERS | {"head": "dense"}, constants=_CONSTANTS),
    "sample-cnn-se": Table(
        _LAYERS | {r"backbone\.layer(\d+)_dense(\d)": r"layer\1.dense\2"} | _DENSE_BLOCK, constants=_CONSTANTS
    ),
}
