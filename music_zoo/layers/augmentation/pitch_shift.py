"""Shifts of pitch at the same tempo, by waveform similarity overlap-add."""

import math
from typing import Any

import keras
import numpy as np
import scipy.fft
from keras import ops

from music_zoo.layers.augmentation.base import Augmentation, known_samples
from music_zoo.layers.augmentation.gather import take_last


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
        samples = known_samples(self, inputs)
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


def _twice_as_fine(signal: Any, size: int, ratio: Any) -> Any:
    """Return signals at twice their rate, without what reading them `ratio` times faster would alias."""
    real, imag = ops.rfft(signal, size)
    frequency = ops.arange(size // 2 + 1, dtype="float32") / (size // 2)  # of half the sample rate
    keep = 2 * ops.clip((1 / ratio[:, None] - frequency) / 0.05 + 1, 0.0, 1.0)
    keep = keep * ops.convert_to_tensor(
        np.append(np.ones(size // 2), 0.5), "float32"
    )  # the last bin is now one of two
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
