"""Deterministic inputs and weights behind the parity fixtures.

Only numpy is needed.  Every array is a function of a name and a shape, so a
re-implementation can rebuild the exact same weights and inputs and compare its
outputs with the stored ones.  ``RandomState`` is used on purpose: its stream is
frozen by numpy's compatibility policy, ``default_rng`` streams are not.
"""

import fnmatch
import math
import zlib

import numpy as np

# Per-model adjustments that keep activations in a healthy range:
#   norms: prefix of the first normalisation layer -> (running mean, running variance)
#   damp:  shell-style pattern of a weight -> factor (residual branches, last layer)
MODEL_RULES = {
    "fcn": {"norms": {"spec_bn.": (-8.0, 120.0)}, "damp": {"dense.weight": 0.3}},
    "crnn": {"norms": {"spec_bn.": (-8.0, 120.0)}},
    "musicnn_mtat": {"norms": {"spec_bn.": (-8.0, 120.0)}, "damp": {"dense2.weight": 0.3}},
    "musicnn_msd": {"norms": {"spec_bn.": (-8.0, 120.0)}, "damp": {"dense2.weight": 0.3}},
    "shortchunk": {"norms": {"spec_bn.": (-8.0, 120.0)}, "damp": {"dense2.weight": 0.3}},
    "shortchunk_res": {"norms": {"spec_bn.": (-8.0, 120.0)}, "damp": {"dense2.weight": 0.3}},
    "cnnsa": {"norms": {"spec_bn.": (-8.0, 120.0)}},
    "harmoniccnn": {
        "norms": {"hstft_bn.": (-8.0, 120.0)},
        "damp": {"*.bn_2.weight": 0.4, "dense2.weight": 0.1},
    },
    "samplecnn": {"norms": {"layer1.bn.": (0.0, 0.01)}, "damp": {"dense.weight": 0.3}},
    "samplecnn_se": {
        "norms": {"layer1.bn_1.": (0.0, 0.01), "layer1.bn_3.": (0.0, 0.01)},
        "damp": {"*.bn_2.weight": 0.4, "dense2.weight": 0.1},
    },
    "clmr_samplecnn": {"norms": {"sequential.0.1.": (0.0, 0.01)}, "damp": {"fc.weight": 0.4}},
    "mtt_teacher": {"norms": {"frontend.input_bn.": (-8.0, 120.0)}},
    "mtt_student": {"norms": {"frontend.input_bn.": (-8.0, 120.0)}},
    "deezer_resnet": {"norms": {"backbone.embedding.bn1.": (0.0, 400.0)}, "damp": {"*.bn3.weight": 0.4}},
}
TABLES = (
    "cls_token",
    "pos_embedding",
    "positional_embedding",
    "absolute_pos_embed",
    "relative_position_bias_table",
)


def normals(name, shape):
    """Standard normal float64 array, seeded by the CRC-32 of the name."""
    seed = zlib.crc32(name.encode("utf-8")) & 0xFFFFFFFF
    return np.random.RandomState(seed).standard_normal(tuple(shape))


def rule_of(name, shape):
    """Name of the rule that fills this tensor (see fill)."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return "one"
    if leaf in ("running_mean", "running_var"):
        return leaf
    if leaf in TABLES:
        return "table"
    if len(shape) >= 2:
        return "kernel"
    if leaf.startswith("bias"):
        return "bias"
    return "gain"


def fill(name, shape, model=""):
    """Value of the state-dict entry ``name`` (PyTorch name, PyTorch shape)."""
    rule, n = rule_of(name, shape), normals(name, shape)
    extra = MODEL_RULES.get(model, {})
    mean, var = next((v for p, v in extra.get("norms", {}).items() if name.startswith(p)), (0.0, 1.0))
    factor = next((v for p, v in extra.get("damp", {}).items() if fnmatch.fnmatchcase(name, p)), 1.0)
    if rule == "one":
        return np.asarray(1, dtype=np.int64)
    if rule == "running_mean":
        value = mean + 0.1 * math.sqrt(var) * n
    elif rule == "running_var":
        value = var * (1.0 + 0.1 * np.abs(n))
    elif rule == "table":
        value = 0.5 * n
    elif rule == "kernel":
        value = factor * n * math.sqrt(2.0 / np.prod(shape[1:]))
    elif rule == "bias":
        value = 0.1 * n
    else:
        value = factor * (1.0 + 0.1 * n)
    return value.astype(np.float32)


def waveform(samples, rate, index=0):
    """Chirps + decaying clicks + seeded noise; float32, peak below 1."""
    t = np.arange(samples, dtype=np.float64) / rate
    span = samples / rate
    out = np.zeros(samples)
    for k in range(4):
        low = 70.0 * (k + 1) * (1.0 + 0.37 * index)
        high = (0.11 + 0.08 * k) * rate / (1.0 + 0.25 * index)
        phase = 2.0 * np.pi * (low * t + 0.5 * (high - low) * t * t / span)
        out += 0.16 / (k + 1) * np.sin(phase + 0.7 * k)
    since = np.mod(t + 0.05 * index, 0.31)
    out += 0.25 * np.exp(-40.0 * since) * np.sin(2.0 * np.pi * 900.0 * (1 + index) * since)
    out *= 0.6 + 0.4 * np.sin(2.0 * np.pi * 1.7 * t + index)
    out += 0.02 * normals(f"noise/{index}", (samples,))
    return out.astype(np.float32)


def wave_batch(samples, rate, count=2):
    return np.stack([waveform(samples, rate, i) for i in range(count)])


def decibel_like(name, shape):
    """Stand-in for a log-mel tensor (..., bands, frames): tests the body alone."""
    n = normals("decibels/" + name, shape)
    bands, frames = shape[-2], shape[-1]
    tilt = -30.0 * np.arange(bands)[:, None] / bands
    swing = 10.0 * np.sin(
        2.0 * np.pi * 5.0 * np.arange(frames) / frames + 6.0 * np.arange(bands)[:, None] / bands
    )
    per_item = 6.0 * np.arange(shape[0]).reshape((-1,) + (1,) * (len(shape) - 1))
    return (8.0 + tilt + swing + 8.0 * n - per_item).astype(np.float32)


def image(name, shape):
    """Stand-in for a normalised image batch (batch, channels, height, width)."""
    n = normals("image/" + name, shape)
    rows = np.arange(shape[-2])[:, None] / shape[-2]
    cols = np.arange(shape[-1])[None, :] / shape[-1]
    item = np.arange(shape[0]).reshape(-1, 1, 1, 1)
    chan = np.arange(shape[1]).reshape(1, -1, 1, 1)
    smooth = np.sin(6.0 * rows + 9.0 * cols + 1.3 * item + 0.7 * chan)
    return (smooth + 0.5 * n).astype(np.float32)


def _is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(math.isqrt(n)) + 1))


def subset_step(size, limit=400):
    """1 for small arrays, else the first prime that leaves at most ``limit`` values."""
    if size <= limit:
        return 1
    step = -(-size // limit)
    while not _is_prime(step):
        step += 1
    return step


def subset(array, limit=400):
    """Flat strided sample of an array laid out as PyTorch lays it out (C order)."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat[:: subset_step(flat.size, limit)]


def worst_difference(stored, array, step):
    """Largest absolute difference; ``step`` is listed per array in the json file."""
    flat = np.ascontiguousarray(array).reshape(-1)[::step]
    return float(np.max(np.abs(flat.astype(np.float64) - np.asarray(stored, np.float64).reshape(-1))))
