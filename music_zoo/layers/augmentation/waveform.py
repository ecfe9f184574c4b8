"""Augmentations of waveforms `(batch, samples)` in -1..1, those of CLMR (arXiv:2103.09410).

The two of them that are algorithms of their own are in `pitch_shift.py` and `reverb.py`.
"""

import math
from typing import Any

import keras
import numpy as np
import scipy.fft
from keras import ops

from music_zoo.layers.augmentation.base import Augmentation, known_samples
from music_zoo.layers.augmentation.gather import take_last


@keras.saving.register_keras_serializable(package="music_zoo")
class PolarityInversion(Augmentation):
    """Turns the waveform upside down, which no ear notices.

    Args:
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.
    """

    def __init__(self, *, probability: float = 0.8, seed: int | None = None, name: str | None = None):
        super().__init__(probability=probability, seed=seed, name=name)

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return nothing: an inversion has no parameters."""
        return {}

    def apply(self, inputs: Any) -> Any:
        """Return the waveforms with their sign changed."""
        return -inputs


@keras.saving.register_keras_serializable(package="music_zoo")
class WhiteNoise(Augmentation):
    """Adds Gaussian noise that is a drawn share of each example's own standard deviation.

    Args:
        low: Least standard deviation of the noise, where the example's is 1.
        high: Greatest.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A range that is not in order, or below 0.
    """

    def __init__(
        self,
        low: float = 1e-4,
        high: float = 1e-2,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if not 0 <= low <= high:
            raise ValueError(f"WhiteNoise: expected 0 <= low <= high, got low={low}, high={high}.")
        self.low = low
        self.high = high

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the `share` of each example and the `noise` before scaling, `(batch, samples)`."""
        return {
            "share": self.uniform(inputs, self.low, self.high),
            "noise": self.normal(inputs, 1.0, shape=(ops.shape(inputs)[1],)),
        }

    def apply(self, inputs: Any, share: Any, noise: Any) -> Any:
        """Return the waveforms with their noise."""
        return inputs + share[:, None] * ops.std(inputs, axis=1, keepdims=True) * noise

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"low": self.low, "high": self.high}


@keras.saving.register_keras_serializable(package="music_zoo")
class WaveformGain(Augmentation):
    """Makes each example louder or softer by decibels drawn evenly.

    Args:
        low: Least gain in dB.
        high: Greatest. Above 0 the result may leave -1..1; nothing is cut off.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A range that is not in order.
    """

    def __init__(
        self,
        low: float = -20.0,
        high: float = -1.0,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if not low <= high:
            raise ValueError(f"WaveformGain: expected low <= high in dB, got low={low}, high={high}.")
        self.low = low
        self.high = high

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the gain of each example in `decibels`."""
        return {"decibels": self.uniform(inputs, self.low, self.high)}

    def apply(self, inputs: Any, decibels: Any) -> Any:
        """Return the scaled waveforms."""
        return inputs * ops.power(10.0, decibels / 20)[:, None]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"low": self.low, "high": self.high}


@keras.saving.register_keras_serializable(package="music_zoo")
class HighLowPass(Augmentation):
    """Filters each example with a low-pass or, as often, with a high-pass of drawn cutoff.

    The filters are those of CLMR's code (julius): a sinc under a Hann window that spans 8 of its zero
    crossings, linear phase without delay, 6 dB down at the cutoff; it passes all below about 3/4 of the
    cutoff and stops all above 5/4 of it. A high-pass is the input without its low-pass.

    Args:
        sample_rate: Of the waveforms, in Hz.
        low_pass: Least and greatest cutoff of the low-pass, in Hz.
        high_pass: Least and greatest cutoff of the high-pass, in Hz.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: Cutoffs that are not in order, or not between 0 and half the sample rate. When called:
            waveforms of unknown length.
    """

    def __init__(
        self,
        sample_rate: int,
        low_pass: tuple[float, float] = (2200.0, 4000.0),
        high_pass: tuple[float, float] = (200.0, 1200.0),
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        for argument, (low, high) in (("low_pass", low_pass), ("high_pass", high_pass)):
            if not 0 < low <= high <= sample_rate / 2:
                raise ValueError(
                    f"HighLowPass: `{argument}` must be (low, high) in Hz with 0 < low <= high <= half the "
                    f"sample rate of {sample_rate} Hz, got ({low}, {high})."
                )
        self.sample_rate = sample_rate
        self.low_pass = tuple(low_pass)
        self.high_pass = tuple(high_pass)
        # One side of the longest filter, in samples.
        self._reach = int(4 * sample_rate / min(low_pass[0], high_pass[0]))

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return whether each example gets a `high_pass`, and its `cutoff` in Hz."""
        high_pass = self.uniform(inputs) < 0.5
        low_cutoff, high_cutoff = self.uniform(inputs, *self.low_pass), self.uniform(inputs, *self.high_pass)
        return {"high_pass": high_pass, "cutoff": ops.where(high_pass, high_cutoff, low_cutoff)}

    def apply(self, inputs: Any, high_pass: Any, cutoff: Any) -> Any:
        """Return the filtered waveforms."""
        samples, reach = known_samples(self, inputs), self._reach
        # Zeros behind the signal, at least as many as one side of the filter has, keep its ends apart.
        size = scipy.fft.next_fast_len(max(samples, reach + 1) + reach, real=True)
        side = self._filter(cutoff)
        # Centred on the first sample, the filter is even, so its transform is real.
        kernel = [ops.pad(side, ((0, 0), (0, size - 2 * reach - 1))), ops.flip(side[:, 1:], axis=1)]
        response, _ = ops.rfft(ops.concatenate(kernel, axis=1), size)
        response = ops.where(high_pass[:, None], 1 - response, response)
        real, imag = ops.rfft(inputs, size)
        return ops.irfft((real * response, imag * response), size)[:, :samples]

    def _filter(self, cutoff: Any) -> Any:
        """Return the low-pass of each cutoff from its centre to one end, `(batch, reach + 1)`; sums to 1."""
        time = ops.arange(self._reach + 1, dtype="float32")
        cutoff = cutoff[:, None] / self.sample_rate
        reach = ops.floor(4 / cutoff)
        window = ops.where(time <= reach, 0.5 + 0.5 * ops.cos(math.pi * time / reach), 0.0)
        angle = 2 * math.pi * cutoff * ops.maximum(time, 1.0)
        side = window * ops.where(time == 0, 1.0, ops.sin(angle) / angle)
        return side / (2 * ops.sum(side, axis=1, keepdims=True) - side[:, :1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "sample_rate": self.sample_rate,
            "low_pass": self.low_pass,
            "high_pass": self.high_pass,
        }


@keras.saving.register_keras_serializable(package="music_zoo")
class Delay(Augmentation):
    """Adds one echo: the mean of the waveform and a softer, later copy of it.

    Args:
        sample_rate: Of the waveforms, in Hz.
        low: Shortest delay in ms.
        high: What the longest delay is below, in ms.
        step: From one delay to the next, in ms: one of `low`, `low + step` ... is drawn.
        volume: Factor of the copy.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A range that holds no delay, or a step not above 0.
    """

    def __init__(
        self,
        sample_rate: int,
        low: float = 200.0,
        high: float = 500.0,
        step: float = 50.0,
        volume: float = 0.5,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if sample_rate <= 0:
            raise ValueError(f"Delay: `sample_rate` must be above 0 Hz, got {sample_rate}.")
        if not (0 <= low < high and step > 0):
            raise ValueError(
                f"Delay: expected 0 <= low < high and step > 0 (ms), got low={low}, high={high}, step={step}."
            )
        self.sample_rate = sample_rate
        self.low = low
        self.high = high
        self.step = step
        self.volume = volume
        self._choices = (np.arange(low, high, step) * sample_rate / 1000).astype("int32")

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the `delay` of each example in samples."""
        return {"delay": ops.take(self._choices, self.integers(inputs, len(self._choices) - 1), axis=0)}

    def apply(self, inputs: Any, delay: Any) -> Any:
        """Return the waveforms with their echoes."""
        longest = int(self._choices[-1])
        place = ops.arange(ops.shape(inputs)[1], dtype="int32")
        delayed = take_last(ops.pad(inputs, ((0, 0), (longest, 0))), longest + place - delay[:, None])
        return (inputs + self.volume * delayed) / 2

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "sample_rate": self.sample_rate,
            "low": self.low,
            "high": self.high,
            "step": self.step,
            "volume": self.volume,
        }
