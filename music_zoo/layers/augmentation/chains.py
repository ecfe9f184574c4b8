"""Augmentations in a row, by the name of the method whose views they make."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from music_zoo.layers.augmentation.pitch_shift import PitchShift
from music_zoo.layers.augmentation.reverb import Reverb
from music_zoo.layers.augmentation.spectrogram import (
    EqualizerTilt,
    FrequencyMasking,
    Gain,
    RandomResizedCrop,
    TimeMasking,
)
from music_zoo.layers.augmentation.waveform import (
    Delay,
    HighLowPass,
    PolarityInversion,
    WaveformGain,
    WhiteNoise,
)


@keras.saving.register_keras_serializable(package="music_zoo")
class Chain(keras.layers.Layer):
    """Layers one after the other; none: the identity.

    Like `keras.layers.Pipeline`, but on its own it does not take a call for training, and it may be empty.

    Args:
        layers: In their order.
        name: Name of the chain.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], *, name: str | None = None):
        super().__init__(name=name, dtype="float32")
        self.layers = list(layers)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return what the layers make of the inputs."""
        for layer in self.layers:
            inputs = layer(inputs, training=training)
        return inputs

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layers."""
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape after the last layer."""
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        return {"layers": layers, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Chain":
        """Return the chain of a config."""
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(**config | {"layers": layers})


def s3t(seed: int | None = None) -> Chain:
    """Return a chain for log-mel images of at least 16 bands and frames, scaled 0..1.

    S3T (Zhao et al. 2022, arXiv:2202.10139) does not say exactly what its augmentations are, and its code is
    not public. This chain is our own: resized crops, tone, loudness, and masks as in SpecAugment
    (arXiv:1904.08779), each slight: with twice the strength, and mixed with other tracks (`LogMelMixup`), a
    small Swin learned nothing in the 500 steps in which it learned much from unchanged segments. Cut segments
    of the track first, with `TwoSegments`.
    """
    seeds = _seeds(seed, 5)
    return Chain(
        [
            RandomResizedCrop(scale_time=(0.8, 1.0), scale_frequency=(0.95, 1.0), seed=seeds[0]),
            EqualizerTilt(std=0.02, points=6, seed=seeds[1]),
            Gain(std=0.04, seed=seeds[2]),
            FrequencyMasking(max_width=12, count=1, seed=seeds[3]),
            TimeMasking(max_width=8, count=1, seed=seeds[4]),
        ],
        name="s3t",
    )


def multi_view(seed: int | None = None) -> Chain:
    """Return the chain of the multi-view study (Meseguer-Brocal et al. 2024, arXiv:2404.09177): nothing.

    Its views are two segments of a track as they are: see `TwoSegments`. The seed has no effect.
    """
    return Chain([], name="multi_view")


def clmr(sample_rate: int, seed: int | None = None) -> Chain:
    """Return the chain of CLMR (Spijkervet and Burgoyne 2021, arXiv:2103.09410) for waveforms.

    Order and probabilities are those of its published configuration, the ranges those of the augmentations'
    defaults. Cut segments first, with `RandomCrop` (in the paper, 59,049 samples at 22,050 Hz).

    Args:
        sample_rate: Of the waveforms, in Hz; at least 8000.
        seed: Of all random generators.
    """
    seeds = _seeds(seed, 7)
    return Chain(
        [
            PolarityInversion(probability=0.8, seed=seeds[0]),
            WhiteNoise(probability=0.01, seed=seeds[1]),
            WaveformGain(probability=0.3, seed=seeds[2]),
            HighLowPass(sample_rate, probability=0.8, seed=seeds[3]),
            Delay(sample_rate, probability=0.3, seed=seeds[4]),
            PitchShift(sample_rate, probability=0.6, seed=seeds[5]),
            Reverb(sample_rate, probability=0.6, seed=seeds[6]),
        ],
        name="clmr",
    )


#: Every chain by name: functions of the seed; `clmr` of the sample rate, too.
CHAINS: dict[str, Callable[..., Chain]] = {"s3t": s3t, "multi_view": multi_view, "clmr": clmr}


def _seeds(seed: int | None, count: int) -> list[int | None]:
    """Return a seed for each layer of a chain, all different.

    Not consecutive ones: Keras on PyTorch seeds a draw with the sum of seed and number of the draw, so that
    the second draw of a layer would be the first of the next.
    """
    if seed is None:
        return [None] * count
    return [int(state) for state in np.random.SeedSequence(seed).generate_state(count) >> 1]
