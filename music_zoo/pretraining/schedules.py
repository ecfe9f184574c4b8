"""How learning rates, momenta and temperatures change in the course of a training."""

import math
from typing import Any

import keras
from keras import ops


def warmup_cosine(
    peak: float, steps: int, warmup_steps: int = 0, final: float = 0.0
) -> keras.optimizers.schedules.CosineDecay:
    """Return a learning rate that rises from 0 on a line, then falls on half a cosine.

    Args:
        peak: The largest rate, after `warmup_steps`.
        steps: Steps of the whole training.
        warmup_steps: Those in which the rate rises.
        final: The rate at the end, and after it.

    Raises:
        ValueError: A warm-up that does not end before the training, or a rate that is not positive.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"The warm-up must end before the training of {steps} steps, got {warmup_steps} steps of it."
        )
    if not 0 <= final <= peak or not peak:
        raise ValueError(f"Expected rates with 0 <= final <= peak and peak > 0, got {final} and {peak}.")
    schedule = keras.optimizers.schedules.CosineDecay
    if not warmup_steps:
        return schedule(peak, steps, alpha=final / peak)
    return schedule(
        0.0, steps - warmup_steps, alpha=final / peak, warmup_target=peak, warmup_steps=warmup_steps
    )


def cosine(start: float, end: float, step: Any, total: int) -> Any:
    """Return a value that moves from `start` to `end` on half a cosine, and stays there; float32.

    The momentum of BYOL (0.996 to 1) and the teacher temperature of DINO (0.02 to 0.04) move so in the
    multi-view study (arXiv:2404.09177).

    Args:
        start: At step 0.
        end: From step `total` on.
        step: A number or a tensor of any shape; may count epochs, too.
        total: Steps from start to end; 0: `end` from the beginning.
    """
    step = ops.cast(ops.convert_to_tensor(step), "float32")
    progress = ops.clip(step / total, 0.0, 1.0) if total else ops.ones_like(step)
    return end + 0.5 * (start - end) * (1 + ops.cos(math.pi * progress))
