"""Trainers small enough for tests, with weights that are the same on every backend. Imports Keras."""

from functools import cache

import keras
import numpy as np
from keras import ops

from music_zoo.layers.augmentation import TwoSegments, s3t
from music_zoo.pretraining import METHODS, TwoViews
from music_zoo.pretraining.schedules import warmup_cosine

BANDS, FRAMES, SEGMENT = 16, 40, 16
#: For `compile`: JAX compiles always; elsewhere XLA takes longer than these trainings.
JIT = keras.config.backend() == "jax"
#: Arguments for the smallest heads.
OPTIONS = {
    "simclr": {"projection": (8, 4), "batch_norm": True},
    "moco": {"projection": (8, 4), "queue_length": 12, "groups": 2, "seed": 5, "momentum": 0.9},
    "byol": {"projection": (8, 4), "prediction": 6, "total_steps": 12, "momentum": 0.9},
    "barlow_twins": {"projection": (8, 6)},
    "vicreg": {"projection": (8, 6)},
    "clustering": {"projection": (8, 10), "total_steps": 12, "warmup_steps": 6, "momentum": 0.9},
}


def small_encoder(frames: int = SEGMENT, dropout: float = 0.0, **dense) -> keras.Model:
    """Two dense layers with batch normalisation between them, from images to `(batch, 8)`."""
    inputs = keras.Input((BANDS, frames))
    x = keras.layers.Dense(12, use_bias=False, **dense)(keras.layers.Flatten()(inputs))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.5)(x))
    x = keras.layers.Dropout(dropout, seed=7)(x) if dropout else x
    return keras.Model(inputs, keras.layers.Dense(8, use_bias=False)(x))


def small_trainer(method: str, *, seed: int = 0, views: bool = True, dropout: float = 0.0, **options):
    """A method around a small encoder, with random views of clips of 40 frames or (no views) pairs of 16."""
    keras.utils.set_random_seed(seed)
    chain = TwoViews(TwoSegments(SEGMENT, seed=seed + 1), [s3t(seed=seed + 2)]) if views else None
    return METHODS[method](small_encoder(dropout=dropout), chain, **OPTIONS[method] | options)


def seed_weights(trainer, seed: int = 0) -> None:
    """Give a trainer weights (and a queue) that keep the size of signals."""
    rng = np.random.default_rng(seed)
    for variable in trainer.trainable_variables:
        if len(variable.shape) > 1:
            scale = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(scale * rng.standard_normal(variable.shape))
    for online, target in trainer._targets:
        target.assign(*values([online]))  # a copy: JAX gives away the buffers of what it trains
    if hasattr(trainer, "queue"):
        queue = rng.standard_normal(trainer.queue.shape)
        trainer.queue.assign(queue / np.linalg.norm(queue, axis=-1, keepdims=True))


def compiled_trainer(method: str, **options):
    """A small trainer with dropout and an optimizer that has a state and a schedule."""
    trainer = small_trainer(method, dropout=0.2, **options)
    trainer.compile(keras.optimizers.Adam(warmup_cosine(1e-2, 12), clipnorm=3.0), jit_compile=JIT)
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


@cache
def _shared(method: str):
    trainer = compiled_trainer(method)
    return trainer, state(trainer)


def shared_trainer(method: str):
    """The same for all tests, as it was at first: it takes seconds to compile."""
    trainer, first = _shared(method)
    for variable, value in zip(_variables(trainer), first, strict=True):
        variable.assign(value)
    return trainer


def _variables(trainer) -> list[keras.Variable]:
    return [*trainer.variables, *trainer.optimizer.variables]


def values(variables) -> list[np.ndarray]:
    """Copies."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def state(trainer) -> list[np.ndarray]:
    """All that training changes."""
    return values(_variables(trainer))


def clips(number: int, frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """Images that differ in the bands that sound, 0 to 1."""
    rng = np.random.default_rng(seed)
    tone = rng.uniform(size=(number, BANDS, 1))
    return np.clip(tone + 0.2 * rng.standard_normal((number, BANDS, frames)), 0, 1).astype(np.float32)


def pairs(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two views of each clip: the same tones in other noise."""
    both = clips(number, 2 * SEGMENT, seed)
    return both[..., :SEGMENT], both[..., SEGMENT:]


class BatchLosses(keras.callbacks.Callback):
    """Keeps the loss after each batch: Keras' mean over the epoch so far."""

    def __init__(self):
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def losses_of_steps(method: str, steps: int = 20, batch_size: int = 8, **options) -> np.ndarray:
    """The loss of each of some steps of `fit` with SGD, from the same weights and pairs on every backend."""
    trainer = small_trainer(method, views=False, **options)
    seed_weights(trainer)
    # With a rate of 0.1 and momentum, rounding errors of 1e-7 grow beyond 1e-4 in these steps.
    trainer.compile(keras.optimizers.SGD(0.02), jit_compile=JIT)
    record = BatchLosses()
    trainer.fit(
        pairs(steps * batch_size),
        batch_size=batch_size,
        shuffle=False,
        callbacks=[record],
        verbose=0,
    )
    sums = np.array(record.losses) * np.arange(1, steps + 1)
    return np.diff(sums, prepend=0.0)
