"""Augmentations of waveforms `(batch, samples)` in -1..1, those of CLMR (arXiv:2103.09410)."""

import math
from typing import Any

import keras
import numpy as np
import scipy.fft
from keras import ops

from music_zoo.layers.augmentation.base import Augmentation
from music_zoo.layers.augmentation.gather import take_last

# Of Freeverb (Jezar at Dreampoint, 2000) as in sox's reverb.c: lengths of its filters in samples at 44.1 kHz,
# how much they differ between the channels, and the level of the reverberation.
_COMBS = np.array([1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617])
_ALL_PASSES = np.array([225, 341, 441, 556])
_STEREO_SPREAD = 12
_WET_GAIN = 0.015


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
        samples, reach = _samples(self, inputs), self._reach
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


@keras.saving.register_keras_serializable(package="music_zoo")
class PitchShift(Augmentation):
    """Raises or lowers the pitch by a whole number of cents, at the same tempo.

    Waveform similarity overlap-add (WSOLA): every 50 ms the waveform is read anew, faster or slower than it
    was recorded, from about the place where the reading should be by then. The exact place is the one, of
    those within 7 ms, where the waveform best continues what was read last; the two readings cross-fade for
    12 ms. So up to 25 ms are heard twice (a shift upwards) or left out (downwards) at each step. The
    `pitch` of sox, which CLMR uses, works alike, with the same search (14.68 ms in all) and cross-fade on
    pieces of 82 ms; the implementation is our own, its output not that of sox. What a shift upwards would
    lift above half the sample rate is filtered off; the interpolation takes up to 2 dB off the highest
    frequencies. Tones below about 70 Hz, whose period does not fit into the search, waver.

    Args:
        sample_rate: Of the waveforms, in Hz.
        cents: Greatest shift, up or down: hundredths of a semitone, 1 to 1200.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A setting out of range. When called: waveforms of unknown length.
    """

    def __init__(
        self,
        sample_rate: int,
        cents: int = 700,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if sample_rate < 1000:
            raise ValueError(f"PitchShift: `sample_rate` must be at least 1000 Hz, got {sample_rate}.")
        if not (1 <= cents <= 1200 and cents == int(cents)):
            raise ValueError(f"PitchShift: `cents` must be a whole number from 1 to 1200, got {cents}.")
        self.sample_rate = sample_rate
        self.cents = int(cents)
        self._step, self._search, self._overlap = (
            round(milliseconds * sample_rate / 1000) for milliseconds in (50, 14.68, 12)
        )

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the shift of each example in `cents`."""
        return {"cents": ops.cast(self.integers(inputs, 2 * self.cents) - self.cents, "float32")}

    def apply(self, inputs: Any, cents: Any) -> Any:
        """Return the shifted waveforms."""
        samples = _samples(self, inputs)
        ratio = ops.power(2.0, cents / 1200)
        grains = samples // self._step + 2  # one or two more than needed: there is always a second one
        before = self._search // 2
        # Zeros on either side, so that no reading leaves the signal.
        longest = math.ceil(2 ** (self.cents / 1200) * (self._step + self._overlap)) + self._overlap + 2
        half = (grains * self._step + self._search + longest + 1) // 2
        size = 2 * scipy.fft.next_fast_len(half, real=True)
        padded = ops.pad(inputs, ((0, 0), (before, size - before - samples)))

        begin, part = self._align(padded, ratio, grains)
        continued, _ = self._advance(begin[:, :-1], part[:, :-1], ratio[:, None])
        continued = ops.concatenate([begin[:, :1], continued], axis=1)  # the first continues itself
        fine = _twice_as_fine(padded, size, ratio)
        read = _read(fine, begin, part, ratio, self._step)
        last = _read(fine, continued, part, ratio, self._overlap)
        fade = ops.arange(self._overlap, dtype="float32") / self._overlap
        faded = last + fade * (read[:, :, : self._overlap] - last)
        read = ops.concatenate([faded, read[:, :, self._overlap :]], axis=2)
        return ops.reshape(read, (-1, grains * self._step))[:, :samples]

    def _align(self, padded: Any, ratio: Any, grains: int) -> tuple[Any, Any]:
        """Return where the readings start: whole samples and a fraction, `(batch, grains)` each."""
        width = self._search + self._overlap - 1
        size = scipy.fft.next_fast_len(width, real=True)
        nominal = np.arange(1, grains, dtype="int32") * self._step
        places = nominal[:, None] + np.arange(width, dtype="int32")
        regions = ops.transpose(ops.take(padded, places, axis=1), (1, 0, 2))
        region_real, region_imag = ops.rfft(regions, size)
        energy = ops.cumsum(ops.pad(ops.square(regions), ((0, 0), (0, 0), (1, 0))), axis=2)
        energy = energy[:, :, self._overlap :] - energy[:, :, : -self._overlap]
        ahead = ops.arange(self._overlap, dtype="int32")

        def align_one(
            last: tuple[Any, Any], grain: tuple[Any, ...]
        ) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
            nominal, region_real, region_imag, energy = grain
            continued, part = self._advance(*last, ratio)
            real, imag = ops.rfft(take_last(padded, continued[:, None] + ahead), size)
            product = region_real * real + region_imag * imag, region_imag * real - region_real * imag
            # The squared distance of the two waveforms, but for what is the same at all places.
            distance = energy - 2 * ops.irfft(product, size)[:, : self._search]
            start = nominal + ops.cast(ops.argmin(distance, axis=1), "int32"), part
            return start, start

        first = ops.cast(ops.zeros_like(ratio), "int32") + self._search // 2, ops.zeros_like(ratio)
        _, starts = ops.scan(
            align_one,
            first,
            (ops.convert_to_tensor(nominal), region_real, region_imag, energy),
            length=grains - 1,
        )
        begin, part = (
            ops.concatenate([one[:, None], ops.transpose(rest)], axis=1)
            for one, rest in zip(first, starts, strict=True)
        )
        return begin, part

    def _advance(self, begin: Any, part: Any, ratio: Any) -> tuple[Any, Any]:
        """Return where a reading that started there is after `step` samples."""
        # Whole samples apart: float32 alone is too coarse for the position in a long signal.
        part = part + self._step * ratio
        whole = ops.floor(part)
        return begin + ops.cast(whole, "int32"), part - whole

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"sample_rate": self.sample_rate, "cents": self.cents}


@keras.saving.register_keras_serializable(package="music_zoo")
class Reverb(Augmentation):
    """Adds the reverberation of a room: the `reverb` of sox, which CLMR uses, that is, Freeverb.

    Eight comb filters in parallel, with a low-pass in their feedback, and four all-pass filters behind
    them; lengths and scales as in sox's `reverb.c`. The filters are recursive; here their common frequency
    response is written down in closed form and multiplied in the frequency domain, with a decaying weight
    on the signal that keeps what wraps around 60 dB down. Of a mono signal sox makes a left and a right
    channel, which CLMR averages: so does this. The result may leave -1..1; sox would cut it off there.

    Args:
        sample_rate: Of the waveforms, in Hz.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A sample rate below 1000 Hz. When called: waveforms of unknown length.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if sample_rate < 1000:
            raise ValueError(f"Reverb: `sample_rate` must be at least 1000 Hz, got {sample_rate}.")
        self.sample_rate = sample_rate
        scale = np.arange(100)[:, None] / 100 * 0.9 + 0.1
        rate = sample_rate / 44100
        alternate = np.array([1, -1] * 4) * _STEREO_SPREAD
        # By channel: of the combs by room size, `(100, 8)`, and of the all-passes, `(4,)`, in samples.
        self._combs = [
            (scale * rate * (_COMBS + channel * alternate) + 0.5).astype("int32") for channel in (0, 1)
        ]
        self._all_passes = [
            (rate * (_ALL_PASSES + channel * alternate[:4]) + 0.5).astype("int32") for channel in (0, 1)
        ]

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return `reverberance`, `damping` and `room_size` of each example, whole numbers from 0 to 99."""
        return {
            "reverberance": self.integers(inputs, 99),
            "damping": self.integers(inputs, 99),
            "room_size": self.integers(inputs, 99),
        }

    def apply(self, inputs: Any, reverberance: Any, damping: Any, room_size: Any) -> Any:
        """Return the waveforms with their reverberation."""
        samples = _samples(self, inputs)
        # A power of 2, see `_combs_response`; combs much shorter than it, so that the weight stays moderate.
        longest = 4 * int(max(combs.max() for combs in self._combs))
        size = 1 << (max(samples, longest) - 1).bit_length()
        decay = 10.0 ** (-3 / size)  # the weight of a sample where that of the one before is 1
        weight = _constant(decay ** np.arange(samples))
        wet_real = wet_imag = 0.0
        for combs, all_passes in zip(self._combs, self._all_passes, strict=True):
            response = _combs_response(
                ops.take(combs, room_size, axis=0),
                _feedback(ops.cast(reverberance, "float32"))[:, None],
                ops.cast(damping, "float32")[:, None] / 100 * 0.3 + 0.2,
                size,
                decay,
            )
            real, imag = _product(response, _all_passes_response(all_passes, size, decay))
            wet_real, wet_imag = wet_real + real, wet_imag + imag
        signal = ops.rfft(inputs * weight, size)
        gain = _WET_GAIN / len(self._combs)
        wet = ops.irfft(_product(signal, (gain * wet_real, gain * wet_imag)), size)[:, :samples]
        return inputs + wet / weight

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"sample_rate": self.sample_rate}


def _feedback(reverberance: Any) -> Any:
    """Return the feedback of the combs as sox scales it, from 0.3 at a reverberance of 0 to 0.98 at 100."""
    return 1 - 0.7 * ops.power(0.02 / 0.7, reverberance / 100)


def _combs_response(delays: Any, feedback: Any, damping: Any, size: int, decay: float) -> tuple[Any, Any]:
    """Return the sum of comb filters as real and imaginary part, `(batch, size // 2 + 1)`.

    A comb delays its input plus `feedback` times its output behind a one-pole low-pass: its response is `1
    / (z^delay - feedback (1 - damping) / (1 - damping / z))`. Taken not at `z = exp(iw)`, but at `exp(iw) /
    decay`, it is that of the impulse response times `decay^n`, which fades within `size` samples where that
    of a large room would not.

    Args:
        delays: `(batch, combs)` int32, in samples.
        feedback: `(batch, 1)`.
        damping: `(batch, 1)`.
        size: Length of the Fourier transform, a power of 2.
        decay: Just below 1.
    """
    bins = np.arange(size // 2 + 1, dtype="int32")
    inverse = decay * np.exp(-2j * np.pi * bins / size)
    real = 1 - damping * _constant(inverse.real)
    imag = -damping * _constant(inverse.imag)
    low_pass = feedback * (1 - damping) / (ops.square(real) + ops.square(imag))
    loop_real, loop_imag = low_pass * real, -low_pass * imag
    sum_real = sum_imag = 0.0
    for comb in range(delays.shape[1]):
        delay = delays[:, comb : comb + 1]
        # The angle in whole steps: exact, also where the product overflows, as `size` is a power of 2.
        turns = ops.bitwise_and(ops.multiply(delay, bins), size - 1)
        angle = ops.cast(turns, "float32") * (2 * math.pi / size)
        growth = ops.exp(-math.log(decay) * ops.cast(delay, "float32"))
        real = growth * ops.cos(angle) - loop_real
        imag = growth * ops.sin(angle) - loop_imag
        inverse_power = 1 / (ops.square(real) + ops.square(imag))
        sum_real = sum_real + real * inverse_power
        sum_imag = sum_imag - imag * inverse_power
    return sum_real, sum_imag


def _all_passes_response(delays: np.ndarray, size: int, decay: float) -> tuple[Any, Any]:
    """Return the product of Freeverb's all-pass filters, at the same points as `_combs_response`."""
    bins = np.arange(size // 2 + 1)
    powers = decay**delays * np.exp(-2j * np.pi * (bins[:, None] * delays % size) / size)
    response = np.prod((1.5 * powers - 1) / (1 - 0.5 * powers), axis=1)
    return _constant(response.real), _constant(response.imag)


def _product(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """Multiply complex numbers given as real and imaginary part."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _twice_as_fine(signal: Any, size: int, ratio: Any) -> Any:
    """Return signals at twice their rate, without what reading them `ratio` times faster would alias."""
    real, imag = ops.rfft(signal, size)
    frequency = ops.arange(size // 2 + 1, dtype="float32") / (size // 2)  # of half the sample rate
    keep = 2 * ops.clip((1 / ratio[:, None] - frequency) / 0.05 + 1, 0.0, 1.0)
    keep = keep * _constant(np.append(np.ones(size // 2), 0.5))  # the last bin is now one of two
    return ops.irfft((real * keep, imag * keep), 2 * size)


def _read(fine: Any, begin: Any, part: Any, ratio: Any, count: int) -> Any:
    """Read `count` values, each `ratio` samples behind the last, from every start.

    Args:
        fine: `(batch, 2 * samples)`: signals at twice their sample rate.
        begin: Where to start, in whole samples, `(batch, grains)`.
        part: The fraction of a sample behind it.
        ratio: `(batch,)`.
        count: How many.

    Returns:
        `(batch, grains, count)`, linearly interpolated.
    """
    position = 2 * (part[:, :, None] + ratio[:, None, None] * ops.arange(count, dtype="float32"))
    whole = ops.floor(position)
    grains = begin.shape[1]
    index = ops.reshape(2 * begin[:, :, None] + ops.cast(whole, "int32"), (-1, grains * count))
    share = ops.reshape(position - whole, (-1, grains * count))
    below = take_last(fine, index)
    read = below + share * (take_last(fine, index + 1) - below)
    return ops.reshape(read, (-1, grains, count))


def _constant(values: np.ndarray) -> Any:
    return ops.convert_to_tensor(values.astype("float32"))


def _samples(layer: Augmentation, inputs: Any) -> int:
    """Return the length of the waveforms, which Fourier transforms must know."""
    samples = inputs.shape[1]
    if samples is None:
        raise ValueError(
            f"{layer.name} ({type(layer).__name__}) needs waveforms of known length, got shape "
            f"{tuple(inputs.shape)}; cut them to one length first, for example with `RandomCrop`."
        )
    return samples
